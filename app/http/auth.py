"""API keys: ``Authorization: Bearer <api key>``."""

from collections.abc import Callable

from flask import request

from app.domain.access import Caller, Role
from app.errors import Forbidden, Unauthenticated

Authenticate = Callable[[str], Caller]


def require(authenticate: Authenticate, *roles: Role) -> Caller:
    """Return the request's caller.

    Args:
        authenticate: Looks an API key up.
        roles: Who may pass.

    Raises:
        Unauthenticated: No valid key.
        Forbidden: The key's role is not among ``roles``.
    """
    scheme, _, api_key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not api_key:
        raise Unauthenticated
    caller = authenticate(api_key.strip())
    if caller.role not in roles:
        raise Forbidden
    return caller
