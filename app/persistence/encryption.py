"""Secrets at rest: authenticated encryption under rotatable master keys.

Fernet (AES-128-CBC with HMAC-SHA256) from the ``cryptography`` package. The newest key encrypts,
all keys decrypt, so that a master key is rotated by putting a new one in front.
"""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.errors import InvalidSettings


class Vault:
    """Encrypts and decrypts small secrets; its ``repr`` shows none."""

    def __init__(self, master_keys: Sequence[str]) -> None:
        """Take the master keys, newest first, each 32 bytes in URL-safe Base64.

        Raises:
            InvalidSettings: No key, or one that is not a Fernet key.
        """
        try:
            self._fernet = MultiFernet([Fernet(key) for key in master_keys])
        except ValueError:
            raise InvalidSettings(
                "COUNTERSIGN_ENCRYPTION_KEYS: every key is 32 bytes in URL-safe Base64"
            ) from None

    def encrypt(self, secret: bytes) -> bytes:
        """Return the secret as a token that says nothing without a master key."""
        return self._fernet.encrypt(secret)

    def decrypt(self, token: bytes) -> bytes:
        """Return the secret.

        Raises:
            InvalidSettings: No master key opens the token: the key that closed it is missing.
        """
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise InvalidSettings(
                "COUNTERSIGN_ENCRYPTION_KEYS: no key opens a stored secret; is an old key missing?"
            ) from None


def new_master_key() -> str:
    """Return a fresh master key."""
    return Fernet.generate_key().decode("ascii")
