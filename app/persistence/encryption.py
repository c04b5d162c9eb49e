"""Secrets at rest: authenticated encryption under rotatable master keys.

Fernet (AES-128-CBC with HMAC-SHA256) from the ``cryptography`` package. The newest key encrypts,
all keys decrypt, so that a master key is rotated by putting a new one in front, re-encrypting what
is stored, and then taking the old one out.
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
            keys = [Fernet(key) for key in master_keys]
            self._fernet = MultiFernet(keys)
        except ValueError:
            raise InvalidSettings(
                "COUNTERSIGN_ENCRYPTION_KEYS: every key is 32 bytes in URL-safe Base64"
            ) from None
        self._newest = keys[0]

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
            raise _no_key_opens() from None

    def is_newest(self, token: bytes) -> bool:
        """Tell whether the newest master key opens the token."""
        try:
            self._newest.decrypt(token)
        except InvalidToken:
            return False
        return True

    def reencrypt(self, token: bytes) -> bytes:
        """Return the token's secret under the newest master key.

        Raises:
            InvalidSettings: See ``decrypt``.
        """
        try:
            return self._fernet.rotate(token)
        except InvalidToken:
            raise _no_key_opens() from None


def new_master_key() -> str:
    """Return a fresh master key."""
    return Fernet.generate_key().decode("ascii")


def _no_key_opens() -> InvalidSettings:
    return InvalidSettings(
        "COUNTERSIGN_ENCRYPTION_KEYS: no key opens a stored secret; is an old key missing?"
    )
