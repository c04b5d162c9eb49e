"""Who may call: one shared key, in the header that each service expects it in."""

import hmac

from flask import request


def has_api_key(api_key: str) -> bool:
    """Return whether the request carries the key the way the PSP wants it."""
    return _is_same(request.headers.get("X-API-Key", ""), api_key)


def has_bearer_token(api_key: str) -> bool:
    """Return whether the request carries the key as a bearer token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _is_same(token.strip(), api_key)


def _is_same(presented: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(presented.encode(), expected.encode())
