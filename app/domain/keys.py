"""How keys are told apart without showing them."""

import hmac
from hashlib import sha256


def key_check_value(key: bytes) -> str:
    """Return six hexadecimal digits that name an HMAC key.

    The PSP's own rule: the last three bytes of the HMAC-SHA256 of eight ASCII zeros
    (psp-webhooks.md section 2).
    """
    return hmac.digest(key, b"00000000", sha256)[-3:].hex().upper()
