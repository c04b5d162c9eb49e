"""The merchant accounts that may send us webhooks, with their live keys, cached for a moment."""

import hmac
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app.errors import UnknownMerchantAccount, WrongBasicCredentials

#: How long a process may go on with keys that were changed elsewhere.
CACHE_SECONDS = 2.0

#: How long it may do so while the database does not tell: so long a pool that is dry, or a database
#: that hangs, holds up one webhook of an account at a time, and not all of them.
STALE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderAccount:
    """A merchant account as the receiver needs it. Secrets stay out of its ``repr``.

    Attributes:
        keys: Live HMAC keys by id, newest first; empty if every key has expired.
        basic: ``user:password`` if the account's webhooks carry Basic credentials.
    """

    merchant_account: str
    keys: tuple[tuple[UUID, bytes], ...] = field(repr=False)
    basic: bytes | None = field(repr=False)

    def check_basic(self, authorization: str | None) -> None:
        """Compare the request's Basic credentials in constant time.

        Raises:
            WrongBasicCredentials: The account has credentials and these are others.
        """
        if self.basic is None:
            return
        scheme, _, encoded = (authorization or "").partition(" ")
        try:
            given = b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            given = b""
        if not hmac.compare_digest(given, self.basic):
            raise WrongBasicCredentials("the account's webhooks carry other Basic credentials")


@dataclass(slots=True)
class _Known:
    account: SenderAccount
    loaded_at: float
    is_being_loaded: bool = False

    @property
    def age(self) -> float:
        """Seconds since it was loaded."""
        return monotonic() - self.loaded_at


class Keyring:
    """Looks accounts up, at most once in ``CACHE_SECONDS`` each. Thread-safe."""

    def __init__(
        self, load: Callable[[str], SenderAccount | None], names: Callable[[], list[str]]
    ) -> None:
        """Load accounts by ``load``, which returns None for an unknown one; ``names`` lists all."""
        self._load = load
        self._names = names
        self._lock = Lock()
        self._known: dict[str, _Known] = {}
        self._listed: list[str] = []
        self._listed_at = -CACHE_SECONDS

    def account(self, merchant_account: str) -> SenderAccount:
        """Return the account.

        While one caller looks whether it has changed, the others go on with what is known; and so
        does that one, if the database can't tell.

        Raises:
            UnknownMerchantAccount: It is not registered. Strangers' names are not cached.
        """
        with self._lock:
            known = self._known.get(merchant_account)
            if known is not None:
                if known.age < (STALE_SECONDS if known.is_being_loaded else CACHE_SECONDS):
                    return known.account
                known.is_being_loaded = True
        try:
            account = self._load(merchant_account)
        except SQLAlchemyError:
            if known is None or known.age >= STALE_SECONDS:
                raise
            return known.account
        finally:
            if known is not None:
                known.is_being_loaded = False
        if account is None:
            raise UnknownMerchantAccount("the merchant account is not registered")
        with self._lock:
            self._known[merchant_account] = _Known(account, monotonic())
        return account

    def everyone(self) -> list[SenderAccount]:
        """Return every registered account: a body that is signed as a whole names none before."""
        with self._lock:
            if monotonic() - self._listed_at >= CACHE_SECONDS:
                self._listed_at = monotonic()  # one caller looks; the others use what is known
                is_due = True
            else:
                is_due = False
        if is_due or not self._listed:
            self._listed = self._names()
        return [self.account(name) for name in self._listed]
