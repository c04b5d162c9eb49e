"""HMAC signatures on webhook items (psp-webhooks.md section 2).

The PSP joins eight values of an item by colons, without escaping, and signs the UTF-8 bytes with
HMAC-SHA256 under the hex-decoded key. Nothing else of the item is signed.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence
from typing import TypeVar

from app.errors import InvalidSignature

DIGEST_BYTES = 32

K = TypeVar("K")


def signing_string(signed_values: Sequence[str]) -> bytes:
    """Return the bytes that are signed: the values in signing order, as they were sent."""
    return ":".join(signed_values).encode()


def sign(message: bytes, key: bytes) -> str:
    """Return the Base64 of the message's HMAC-SHA256."""
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode("ascii")


def verify(message: bytes, signature: str | None, keys: Iterable[tuple[K, bytes]]) -> list[K]:
    """Accept ``signature`` if any live key produces it.

    Every key is tried even after a match, and each comparison takes the same time wherever the
    values differ: the time taken says nothing about the keys.

    Args:
        message: What was signed: an item's signing string, or the raw body.
        signature: As sent; None if none was.
        keys: Names and keys of the live keys; several while one is being rotated.

    Returns:
        The names of the keys that sign so, in their order; at least one.

    Raises:
        InvalidSignature: No live key matches, there is none, or the signature is missing or is not
            the Base64 of 32 bytes.
    """
    given = _decode(signature)
    matches = [
        name
        for name, key in keys
        if hmac.compare_digest(hmac.digest(key, message, "sha256"), given)
    ]
    if not matches:
        raise InvalidSignature("no live key of the merchant account produces this signature")
    return matches


def _decode(signature: str | None) -> bytes:
    if not signature:
        raise InvalidSignature("there is no signature")
    try:
        given = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSignature("the signature is not Base64") from None
    if len(given) != DIGEST_BYTES:
        raise InvalidSignature(f"the signature is not {DIGEST_BYTES} bytes long")
    return given
