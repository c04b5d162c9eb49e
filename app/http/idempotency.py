"""The Idempotency-Key header and the request's fingerprint."""

import hashlib
import json
import re

from flask import Request, Response

from app.errors import CardNumberRefused, IdempotencyKeyMissing
from app.http.card_numbers import holds_card_number
from app.services.ports import StoredAnswer

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,64}")


def idempotency_key(request: Request) -> str:
    """Return the request's key.

    Raises:
        IdempotencyKeyMissing: Missing, or not 1 to 64 visible ASCII characters.
        CardNumberRefused: It is a card number.
    """
    key = request.headers.get("Idempotency-Key", "")
    if not _VISIBLE_ASCII.fullmatch(key):
        raise IdempotencyKeyMissing
    if holds_card_number(key):
        raise CardNumberRefused("Idempotency-Key")
    return key


def fingerprint(request: Request, body: object) -> bytes:
    """Return a digest of what is asked for: method, path and body, however it is spelt."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    asked = f"{request.method} {request.path}\n{canonical}"
    return hashlib.sha256(asked.encode()).digest()


def answer_of(stored: StoredAnswer, *, replayed: bool) -> Response:
    """Turn a stored answer into a response."""
    response = Response(stored.body + "\n", status=stored.status, mimetype="application/json")
    response.headers["Location"] = f"/payments/{json.loads(stored.body)['id']}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response
