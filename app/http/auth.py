"""API keys: ``Authorization: Bearer <api key>``.

A participant's key opens the routes of participants and no other; no other key opens those.
"""

from collections.abc import Callable

from flask import request

from app.domain.access import Caller, Role
from app.errors import Forbidden, Unauthenticated

Authenticate = Callable[[str], Caller]


def require(authenticate: Authenticate, *roles: Role) -> Caller:
    """Return the request's caller, who is no participant.

    Args:
        authenticate: Looks an API key up.
        roles: Who may pass.

    Raises:
        Unauthenticated: No valid key.
        Forbidden: The key's role is not among ``roles``.
    """
    caller = _caller(authenticate)
    if caller.role not in roles or caller.role is Role.PARTICIPANT:
        raise Forbidden
    return caller


def require_participant(authenticate: Authenticate) -> tuple[Caller, str]:
    """Return the request's caller and the service whose commands it takes.

    Raises:
        Unauthenticated: No valid key.
        Forbidden: Not a participant's key.
    """
    caller = _caller(authenticate)
    if caller.role is not Role.PARTICIPANT or caller.service_id is None:
        raise Forbidden
    return caller, caller.service_id


def _caller(authenticate: Authenticate) -> Caller:
    scheme, _, api_key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not api_key:
        raise Unauthenticated
    return authenticate(api_key.strip())
