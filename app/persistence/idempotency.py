"""Idempotency-Keys of the merchant API in Postgres."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.persistence.tables import idempotency_keys
from app.services.ports import KeyHolder, StoredAnswer


class SqlIdempotencyKeys:
    """The keys inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work inside ``connection``'s transaction."""
        self._connection = connection

    def claim(  # the row is what it is
        self,
        merchant_account: str,
        key: str,
        *,
        fingerprint: bytes,
        payment_id: UUID,
        now: datetime,
        lease_until: datetime,
    ) -> KeyHolder | None:
        """Claim a key, waiting for a concurrent claim to commit or roll back; see the port."""
        claimed = self._connection.execute(
            insert(idempotency_keys)
            .values(
                merchant_account=merchant_account,
                key=key,
                fingerprint=fingerprint,
                payment_id=payment_id,
                lease_until=lease_until,
                created_at=now,
            )
            .on_conflict_do_nothing()
            .returning(idempotency_keys.c.key)
        ).one_or_none()
        if claimed is not None:
            return None
        row = self._connection.execute(
            select(idempotency_keys).where(self._is(merchant_account, key)).with_for_update()
        ).one()
        answer = (
            StoredAnswer(status=row.answer_status, body=row.answer_body)
            if row.answer_status is not None
            else None
        )
        return KeyHolder(
            fingerprint=bytes(row.fingerprint),
            payment_id=row.payment_id,
            answer=answer,
            lease_until=row.lease_until,
        )

    def extend(self, merchant_account: str, key: str, *, lease_until: datetime) -> None:
        """Take over the key of a request that died."""
        self._connection.execute(
            update(idempotency_keys)
            .where(self._is(merchant_account, key))
            .values(lease_until=lease_until)
        )

    def answer(self, merchant_account: str, key: str, answer: StoredAnswer) -> StoredAnswer:
        """Keep the answer for those who ask again, and return what is kept: the first one stays."""
        keys = idempotency_keys.c
        kept = self._connection.execute(
            update(idempotency_keys)
            .where(self._is(merchant_account, key))
            .values(
                answer_status=func.coalesce(keys.answer_status, answer.status),
                answer_body=func.coalesce(keys.answer_body, answer.body),
            )
            .returning(keys.answer_status, keys.answer_body)
        ).one()
        return StoredAnswer(status=kept.answer_status, body=kept.answer_body)

    @staticmethod
    def _is(merchant_account: str, key: str) -> ColumnElement[bool]:
        keys = idempotency_keys.c
        return (keys.merchant_account == merchant_account) & (keys.key == key)
