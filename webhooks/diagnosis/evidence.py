"""What Postgres knows that bears on a refused webhook: keys, live or not, and what was stored."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Row, or_, select, text, true

from app.clock import Clock
from app.errors import InvalidSettings, MalformedNotification
from app.persistence.encryption import Vault
from app.persistence.tables import Scheme, hmac_keys, merchant_accounts, webhook_inbox
from webhooks import notifications
from webhooks.diagnosis.claims import Claim
from webhooks.diagnosis.diagnose import diagnose_body, diagnose_items
from webhooks.diagnosis.findings import Diagnosis
from webhooks.diagnosis.trials import Evidence, KnownKey, StoredItem

#: Of the claimed account, live ones first: two while one is rotated, and those of some years.
OWN_KEYS_MAX = 20

#: Of everybody, live ones first: each is decrypted, and tried several times, for every refusal.
ANYBODYS_KEYS_MAX = 100

#: A payment has a handful of webhooks of one PSP reference.
STORED_ITEMS_MAX = 10

#: Webhooks of an account that are looked at to tell its environment. One endpoint has one.
SAMPLE_MAX = 50

_ENVIRONMENTS = text(
    """
    SELECT DISTINCT sample.hmac_key_id, sample.is_live
      FROM unnest(CAST(:accounts AS text[])) AS account
     CROSS JOIN LATERAL (
            SELECT hmac_key_id, is_live FROM webhook_inbox WHERE merchant_account = account
             ORDER BY psp_reference DESC LIMIT :sample_max) AS sample
     WHERE sample.hmac_key_id IS NOT NULL
    """
)


class EvidenceRoom:
    """Looks up evidence, a bounded amount for each claim, and diagnoses by it."""

    def __init__(self, engine: Engine, vault: Vault, clock: Clock) -> None:
        """Read through ``engine``, secrets through ``vault``."""
        self._engine = engine
        self._vault = vault
        self._clock = clock

    def diagnose(
        self,
        body: bytes,
        *,
        scheme: Scheme,
        header_signature: str | None,
        is_basic_wrong: bool = False,
        merchant_account: str | None = None,
    ) -> list[Diagnosis]:
        """Diagnose a webhook of either scheme; see ``webhooks.diagnosis.diagnose``.

        Args:
            body: As it came.
            scheme: Of the route that it came to.
            header_signature: Of the header ``HmacSignature``.
            is_basic_wrong: The request's Basic credentials were missing or wrong.
            merchant_account: Whose keys count; by default those of the account that it claims.
        """

        def evidence_of(claim: Claim) -> Evidence:
            return self.of(
                replace(claim, merchant_account=merchant_account or claim.merchant_account)
            )

        diagnose = diagnose_body if scheme is Scheme.HEADER else diagnose_items
        return diagnose(
            body,
            header_signature=header_signature,
            is_basic_wrong=is_basic_wrong,
            evidence_of=evidence_of,
        )

    def of(self, claim: Claim) -> Evidence:
        """Return what bears on a claim; on one that names no account, everybody's keys do."""
        account = claim.merchant_account
        with self._engine.connect() as connection:
            if account is None:
                return Evidence(keys=self._keys(connection, true(), ANYBODYS_KEYS_MAX))
            is_own = hmac_keys.c.merchant_account == account
            return Evidence(
                is_registered=_is_registered(connection, account),
                keys=self._keys(connection, is_own, OWN_KEYS_MAX),
                others=self._keys(connection, ~is_own, ANYBODYS_KEYS_MAX),
                stored=tuple(_stored_items(connection, claim)),
            )

    def _keys(
        self, connection: Connection, condition: ColumnElement[bool], keys_max: int
    ) -> tuple[KnownKey, ...]:
        keys = hmac_keys.c
        is_live = or_(keys.expires_at.is_(None), keys.expires_at > self._clock.now())
        query = (
            select(hmac_keys, is_live.label("is_live"))
            .where(condition)
            .order_by(is_live.desc(), keys.created_at.desc(), keys.key_id.desc())
            .limit(keys_max)
        )
        rows = connection.execute(query).all()
        environments = _environments(connection, {row.merchant_account for row in rows})
        return tuple(self._open(rows, environments))

    def _open(
        self, rows: Iterable[Row[Any]], environments: Mapping[UUID, frozenset[bool]]
    ) -> Iterator[KnownKey]:
        for row in rows:
            try:
                secret = self._vault.decrypt(bytes(row.secret_encrypted))
            except InvalidSettings:  # `doctor` tells of a master key that is missing
                continue
            yield KnownKey(
                merchant_account=row.merchant_account,
                check_value=row.check_value,
                secret=secret,
                expired_at=None if row.is_live else row.expires_at,
                environments=environments.get(row.key_id, frozenset()),
            )


def _is_registered(connection: Connection, merchant_account: str) -> bool:
    accounts = merchant_accounts.c
    query = select(accounts.merchant_account).where(accounts.merchant_account == merchant_account)
    return connection.execute(query).one_or_none() is not None


def _environments(connection: Connection, accounts: Collection[str]) -> dict[UUID, frozenset[bool]]:
    """Return, of each key, the environments of some webhooks that it verified."""
    found: dict[UUID, frozenset[bool]] = {}
    values = {"accounts": list(accounts), "sample_max": SAMPLE_MAX}
    for row in connection.execute(_ENVIRONMENTS, values):
        found[row.hmac_key_id] = found.get(row.hmac_key_id, frozenset()) | {row.is_live}
    return found


def _stored_items(connection: Connection, claim: Claim) -> Iterator[StoredItem]:
    stored = webhook_inbox.c
    query = (
        select(stored.guid, stored.event_code, stored.body)
        .where(
            stored.merchant_account == claim.merchant_account,
            stored.psp_reference == claim.psp_reference,
            stored.scheme == Scheme.ITEM,
        )
        .order_by(stored.received_at.desc())
        .limit(STORED_ITEMS_MAX)
    )
    for row in connection.execute(query):
        try:
            item = notifications.find(bytes(row.body), row.guid)
        except MalformedNotification:  # stored by a release that read more
            continue
        yield StoredItem(guid=row.guid, event_code=row.event_code, signed_values=item.signed_values)
