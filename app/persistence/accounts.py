"""Merchant accounts, their HMAC keys and their API keys in Postgres.

HMAC keys are stored encrypted, since we must compute with them. API keys are stored as hashes:
they are 32 random bytes, so that a plain SHA-256 can't be searched.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    cast,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from app.clock import Clock
from app.domain.access import SERVICES, Caller, Role
from app.domain.keys import key_check_value
from app.errors import (
    InvalidFields,
    KeyNotFound,
    MerchantAccountExists,
    MerchantAccountNotFound,
    Unauthenticated,
)
from app.persistence.encryption import Vault
from app.persistence.reencryption import count_under_old_keys, reencrypt
from app.persistence.tables import api_keys, hmac_key_uses, hmac_keys, merchant_accounts
from app.services.ports import NewId

HMAC_KEY_BYTES = 32

#: A colon in an account's name could move a field boundary under a valid signature.
_ACCOUNT = re.compile(r"[A-Za-z0-9_.\-]{1,80}")
API_KEY_MARK = "csk"
PREFIX_BYTES = 4
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHmacKey:
    """An HMAC key as operators see it: its check value, never its bytes.

    Attributes:
        is_live: It verifies webhooks now.
        uses_today: Webhooks that it verified in this UTC day, up to a few seconds ago.
        uses_yesterday: In the UTC day before.
        uses_7_days: In the last seven UTC days, today included.
        last_used_at: None if it never verified a webhook.
    """

    key_id: UUID
    check_value: str
    is_live: bool
    created_at: datetime
    expires_at: datetime | None
    uses_today: int
    uses_yesterday: int
    uses_7_days: int
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredApiKey:
    """An API key as operators see it: its prefix, never its secret."""

    prefix: str
    merchant_account: str
    role: Role
    service_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class MerchantAccounts:
    """The accounts and their keys. Each method is one transaction."""

    def __init__(self, engine: Engine, vault: Vault, clock: Clock, new_id: NewId) -> None:
        """Store through ``engine``, secrets through ``vault``."""
        self._engine = engine
        self._vault = vault
        self._clock = clock
        self._new_id = new_id

    def add(
        self, merchant_account: str, keys: list[bytes], *, basic: tuple[str, str] | None = None
    ) -> None:
        """Register an account with its live HMAC keys.

        Raises:
            InvalidFields: No name that the PSP gives an account.
            MerchantAccountExists: It is registered already; nothing is changed.
        """
        if not _ACCOUNT.fullmatch(merchant_account):
            raise InvalidFields({"account": "is not 1 to 80 letters, digits, dots, _ and -"})
        with self._engine.begin() as connection:
            try:
                connection.execute(
                    insert(merchant_accounts).values(
                        merchant_account=merchant_account,
                        created_at=self._clock.now(),
                        **self._basic_columns(basic),
                    )
                )
            except IntegrityError:
                raise MerchantAccountExists(merchant_account) from None
            for key in keys:
                self._add_key(connection, merchant_account, key)

    def names(self) -> list[str]:
        """Return the registered accounts."""
        query = select(merchant_accounts.c.merchant_account).order_by("merchant_account")
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def set_basic_credentials(self, merchant_account: str, basic: tuple[str, str] | None) -> None:
        """Let the account's webhooks carry this user and password from now on, or none at all.

        Raises:
            MerchantAccountNotFound: No such account.
        """
        with self._engine.begin() as connection:
            self._require(connection, merchant_account)
            connection.execute(
                update(merchant_accounts)
                .where(merchant_accounts.c.merchant_account == merchant_account)
                .values(**self._basic_columns(basic))
            )

    def add_key(
        self, merchant_account: str, key: bytes, *, others_expire_at: datetime | None = None
    ) -> None:
        """Make one more HMAC key live; one that had expired is live again.

        Args:
            merchant_account: Whose key it is.
            key: 32 bytes.
            others_expire_at: When the account's other live keys expire; one that expires earlier
                keeps its time. None leaves them alone.

        Raises:
            MerchantAccountNotFound: No such account.
        """
        with self._engine.begin() as connection:
            self._require(connection, merchant_account)
            self._add_key(connection, merchant_account, key)
            if others_expire_at is not None:
                self._expire_others(connection, merchant_account, key, others_expire_at)

    def expire_key(self, merchant_account: str, check_value: str, *, at: datetime) -> None:
        """Let a key expire.

        Raises:
            KeyNotFound: The account has no key with this check value.
        """
        keys = hmac_keys.c
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(hmac_keys)
                .where(
                    keys.merchant_account == merchant_account,
                    keys.check_value == check_value.upper(),
                )
                .values(expires_at=at)
            )
            if changed.rowcount == 0:
                raise KeyNotFound(f"{merchant_account} has no key {check_value}")

    def keys(self, merchant_account: str) -> list[StoredHmacKey]:
        """Return the account's HMAC keys, newest first, live or not.

        Raises:
            MerchantAccountNotFound: No such account.
        """
        now = self._clock.now()
        query = _keys_with_uses(today=now.date()).where(
            hmac_keys.c.merchant_account == merchant_account
        )
        with self._engine.connect() as connection:
            self._require(connection, merchant_account)
            return [
                StoredHmacKey(
                    **row._asdict(), is_live=row.expires_at is None or row.expires_at > now
                )
                for row in connection.execute(query)
            ]

    def live_keys(self, merchant_account: str) -> list[tuple[UUID, bytes]]:
        """Return the account's live HMAC keys, newest first; empty for an unknown account."""
        keys = hmac_keys.c
        query = (
            select(keys.key_id, keys.secret_encrypted)
            .where(
                keys.merchant_account == merchant_account,
                (keys.expires_at.is_(None)) | (keys.expires_at > self._clock.now()),
            )
            .order_by(keys.created_at.desc(), keys.key_id.desc())
        )
        with self._engine.connect() as connection:
            return [
                (row.key_id, self._vault.decrypt(bytes(row.secret_encrypted)))
                for row in connection.execute(query)
            ]

    def basic_credentials(self, merchant_account: str) -> bytes | None:
        """Return ``user:password`` of the account's webhooks, or None if it has none.

        Raises:
            MerchantAccountNotFound: No such account.
        """
        accounts = merchant_accounts.c
        query = select(accounts.basic_user, accounts.basic_password_encrypted).where(
            accounts.merchant_account == merchant_account
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise MerchantAccountNotFound(merchant_account)
        if row.basic_user is None or row.basic_password_encrypted is None:
            return None
        password = self._vault.decrypt(bytes(row.basic_password_encrypted))
        return str(row.basic_user).encode() + b":" + password

    def reencrypt(self) -> int:
        """Put every stored secret under the newest master key; see ``reencryption.reencrypt``."""
        return reencrypt(self._engine, self._vault)

    def secrets_under_old_keys(self) -> int:
        """Return how many stored secrets the newest master key does not open."""
        with self._engine.connect() as connection:
            return count_under_old_keys(connection, self._vault)

    def create_api_key(
        self,
        merchant_account: str,
        role: Role,
        *,
        service_id: str | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """Make an API key and return it; only its hash is kept.

        Args:
            merchant_account: What it opens.
            role: What it is for.
            service_id: One of ``SERVICES`` for a participant, None for all others.
            expires_at: When it stops working; None for never.

        Raises:
            InvalidFields: A participant without a service, or a service without a participant.
            MerchantAccountNotFound: No such account.
        """
        if (role is Role.PARTICIPANT) != (service_id in SERVICES):
            raise InvalidFields({"service": "goes with the role participant, and only with it"})
        prefix = secrets.token_hex(PREFIX_BYTES)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        with self._engine.begin() as connection:
            self._require(connection, merchant_account)
            connection.execute(
                insert(api_keys).values(
                    key_id=self._new_id(),
                    merchant_account=merchant_account,
                    prefix=prefix,
                    secret_hash=_hash(secret),
                    role=role,
                    service_id=service_id,
                    created_at=self._clock.now(),
                    expires_at=expires_at,
                )
            )
        return f"{API_KEY_MARK}_{prefix}_{secret}"

    def api_keys(self) -> list[StoredApiKey]:
        """Return every API key, newest first."""
        keys = api_keys.c
        query = select(
            keys.prefix,
            keys.merchant_account,
            keys.role,
            keys.service_id,
            keys.created_at,
            keys.expires_at,
            keys.revoked_at,
        ).order_by(keys.created_at.desc())
        with self._engine.connect() as connection:
            return [
                StoredApiKey(**(row._asdict() | {"role": Role(row.role)}))
                for row in connection.execute(query)
            ]

    def revoke_api_key(self, prefix: str) -> None:
        """Make an API key useless at once.

        Raises:
            KeyNotFound: No live key has this prefix.
        """
        keys = api_keys.c
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(api_keys)
                .where(keys.prefix == prefix, keys.revoked_at.is_(None))
                .values(revoked_at=self._clock.now())
            )
            if changed.rowcount == 0:
                raise KeyNotFound(f"no live API key begins with {prefix}")

    def authenticate(self, api_key: str) -> Caller:
        """Return whose key this is.

        A key of an unknown prefix costs a comparison too, so that the time taken does not tell
        which prefixes exist.

        Raises:
            Unauthenticated: Unknown, revoked, expired or malformed; the message does not say which.
        """
        mark, _, rest = api_key.partition("_")
        prefix, _, secret = rest.partition("_")
        row = self._live_api_key(api_keys.c.prefix == prefix.replace("\x00", ""))
        expected = bytes(row.secret_hash) if row is not None else bytes(32)
        is_right = hmac.compare_digest(_hash(secret), expected)
        if row is None or not is_right or mark != API_KEY_MARK:
            raise Unauthenticated
        return _caller(row)

    def caller(self, key_id: UUID) -> Caller:
        """Return whose key this is, for a session that was opened with it.

        Raises:
            Unauthenticated: The key was revoked or has expired since.
        """
        row = self._live_api_key(api_keys.c.key_id == key_id)
        if row is None:
            raise Unauthenticated
        return _caller(row)

    def _live_api_key(self, condition: ColumnElement[bool]) -> Row[Any] | None:
        keys = api_keys.c
        query = select(api_keys).where(
            condition,
            keys.revoked_at.is_(None),
            (keys.expires_at.is_(None)) | (keys.expires_at > self._clock.now()),
        )
        with self._engine.connect() as connection:
            return connection.execute(query).one_or_none()

    def _add_key(self, connection: Connection, merchant_account: str, key: bytes) -> None:
        connection.execute(
            upsert(hmac_keys)
            .values(
                key_id=self._new_id(),
                merchant_account=merchant_account,
                secret_encrypted=self._vault.encrypt(key),
                check_value=key_check_value(key),
                created_at=self._clock.now(),
            )
            .on_conflict_do_update(
                index_elements=["merchant_account", "check_value"], set_={"expires_at": None}
            )
        )

    def _expire_others(
        self, connection: Connection, merchant_account: str, key: bytes, at: datetime
    ) -> None:
        keys = hmac_keys.c
        connection.execute(
            update(hmac_keys)
            .where(
                keys.merchant_account == merchant_account,
                keys.check_value != key_check_value(key),
                (keys.expires_at.is_(None)) | (keys.expires_at > at),
            )
            .values(expires_at=at)
        )

    def _basic_columns(self, basic: tuple[str, str] | None) -> dict[str, object]:
        user, password = basic or (None, None)
        return {
            "basic_user": user,
            "basic_password_encrypted": (
                self._vault.encrypt(password.encode()) if password else None
            ),
        }

    @staticmethod
    def _require(connection: Connection, merchant_account: str) -> None:
        query = select(merchant_accounts.c.merchant_account).where(
            merchant_accounts.c.merchant_account == merchant_account
        )
        if connection.execute(query).one_or_none() is None:
            raise MerchantAccountNotFound(merchant_account)


def hmac_key_of(text: str) -> bytes:
    """Read an HMAC key as the PSP shows it.

    Raises:
        InvalidFields: Not 64 hexadecimal digits.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != HMAC_KEY_BYTES:
        raise InvalidFields({"hmac-key": f"is not {2 * HMAC_KEY_BYTES} hexadecimal digits"})
    return key


def _keys_with_uses(*, today: date) -> Select[Any]:
    """Select every account's keys, newest first, with their uses by UTC day."""
    keys, uses = hmac_keys.c, hmac_key_uses.c

    def total(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return cast(func.coalesce(func.sum(uses.uses).filter(condition), 0), BigInteger)

    return (
        select(
            keys.key_id,
            keys.check_value,
            keys.created_at,
            keys.expires_at,
            total(uses.day == today).label("uses_today"),
            total(uses.day == today - timedelta(days=1)).label("uses_yesterday"),
            total(uses.day > today - timedelta(days=7)).label("uses_7_days"),
            func.max(uses.last_used_at).label("last_used_at"),
        )
        .select_from(hmac_keys.outerjoin(hmac_key_uses))
        .group_by(keys.key_id)
        .order_by(keys.created_at.desc(), keys.key_id.desc())
    )


def _caller(row: Row[Any]) -> Caller:
    return Caller(
        key_id=row.key_id,
        key_prefix=row.prefix,
        merchant_account=row.merchant_account,
        role=Role(row.role),
        service_id=row.service_id,
    )


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
