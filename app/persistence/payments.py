"""Payments and their history in Postgres."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, Select, select
from sqlalchemy.exc import IntegrityError

from app.domain.facts import Fact
from app.domain.flow import FlowState
from app.domain.funds import Funds
from app.domain.history import GENESIS, seal
from app.domain.money import Money
from app.domain.payment import CaptureMode, Change, EventKind, Payment, PaymentEvent
from app.errors import ExternalPaymentExists, MerchantReferenceTaken, PaymentNotFound
from app.persistence.orphans import wake_orphans
from app.persistence.recordset import as_rows, insert_rows, update_rows
from app.persistence.tables import payment_events, payments


class SqlPayments:
    """The payments inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work inside ``connection``'s transaction."""
        self._connection = connection

    def add(self, change: Change) -> None:
        """Insert a new payment with the events that began it, and wake what awaits it.

        Raises:
            MerchantReferenceTaken: We started another payment under this reference.
            ExternalPaymentExists: Another worker has just kept this external payment. After either
                the transaction can't go on.
        """
        insert_changes(self._connection, [History(GENESIS, change.payment, change.events)])
        wake_orphans(self._connection, [change.payment], now=change.at)

    def get(self, payment_id: UUID) -> Payment:
        """Load one payment without a lock, to look at.

        Raises:
            PaymentNotFound: No such payment.
        """
        return self._one(select(payments).where(payments.c.payment_id == payment_id))

    def get_for_update(self, payment_id: UUID) -> Payment:
        """Load one payment and hold its row lock until the transaction ends.

        Raises:
            PaymentNotFound: No such payment.
        """
        query = select(payments).where(payments.c.payment_id == payment_id)
        return self._one(query.with_for_update())

    def save(self, change: Change) -> None:
        """Write the payment and append the events of ``change``. The caller holds the row lock."""
        if not change.events:
            return
        payment = change.payment
        query = select(payments.c.newest_hash).where(
            payments.c.payment_id == payment.payment_id,
            payments.c.version == payment.version - len(change.events),
        )
        newest: bytes = self._connection.execute(query).scalar_one()
        update_changes(self._connection, [History(newest, payment, change.events)])
        if any("payment_psp_reference" in event.data for event in change.events):
            wake_orphans(self._connection, [payment], now=change.at)
        change.events.clear()

    def _one(self, query: Select[Any]) -> Payment:
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise PaymentNotFound
        return payment_of(row)


class History:
    """A payment, and the events that brought it here from the event with the hash ``newest``."""

    def __init__(self, newest: bytes, payment: Payment, events: Sequence[PaymentEvent]) -> None:
        """Seal the events, in order; the last one's hash is the payment's newest."""
        self.payment = payment
        self.rows: list[Mapping[str, object]] = []
        for seq, event in enumerate(events, payment.version - len(events) + 1):
            newest = seal(newest, payment.payment_id, seq, event)
            self.rows.append(
                {
                    "payment_id": payment.payment_id,
                    "seq": seq,
                    "kind": event.kind,
                    "cause": event.cause,
                    "data": event.data,
                    "hash": newest,
                    "at": event.at,
                }
            )
        self.newest_hash = newest
        self.is_ours = events[0].kind is EventKind.STARTED


def insert_changes(connection: Connection, histories: Sequence[History]) -> None:
    """Insert new payments with their events; for what it raises, see ``SqlPayments.add``."""
    rows = [
        columns_of(one.payment, is_ours=one.is_ours) | {"newest_hash": one.newest_hash}
        for one in histories
    ]
    try:
        connection.execute(_INSERT, {"rows": as_rows(rows)})
    except IntegrityError as error:
        if "uq_payments_merchant_reference" in str(error.orig):
            raise MerchantReferenceTaken from None
        if "uq_payments_external" in str(error.orig):
            raise ExternalPaymentExists from None
        raise
    _append(connection, histories)


def update_changes(connection: Connection, histories: Sequence[History]) -> None:
    """Update payments whose row locks the caller holds, and append their events."""
    rows = [
        _changing_columns(one.payment)
        | {"payment_id": one.payment.payment_id, "newest_hash": one.newest_hash}
        for one in histories
    ]
    connection.execute(_UPDATE, {"rows": as_rows(rows)})
    _append(connection, histories)


def _append(connection: Connection, histories: Sequence[History]) -> None:
    rows = [row for one in histories for row in one.rows]
    connection.execute(_APPEND, {"rows": as_rows(rows)})


def payment_of(row: RowMapping | Mapping[str, Any]) -> Payment:
    """Return the payment that a row of ``payments`` holds."""
    return Payment(
        payment_id=row["payment_id"],
        merchant_account=row["merchant_account"],
        merchant_reference=row["merchant_reference"],
        amount=Money(row["amount_minor"], row["currency"]),
        capture=CaptureMode(row["capture"]),
        details=row["details"],
        psp_reference=row["psp_reference"],
        state=FlowState(row["state"]),
        reason=row["reason"],
        funds=Funds.of(Fact.from_json(fact) for fact in row["facts"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def event_of(row: RowMapping) -> PaymentEvent:
    """Return the event that a row of ``payment_events`` holds."""
    return PaymentEvent(
        kind=EventKind(row["kind"]), at=row["at"], cause=row["cause"], data=row["data"]
    )


def columns_of(payment: Payment, *, is_ours: bool) -> dict[str, object]:
    """Return every column of the payment's row that follows from the payment.

    Args:
        payment: The payment.
        is_ours: True if we started it.
    """
    return _changing_columns(payment) | {
        "payment_id": payment.payment_id,
        "merchant_account": payment.merchant_account,
        "merchant_reference": payment.merchant_reference,
        "is_ours": is_ours,
        "amount_minor": payment.amount.amount_minor,
        "currency": payment.amount.currency,
        "capture": payment.capture,
        "details": payment.details,
        "created_at": payment.created_at,
    }


def _changing_columns(payment: Payment) -> dict[str, object]:
    funds = payment.funds
    return {
        "psp_reference": payment.psp_reference,
        "state": payment.state,
        "reason": payment.reason,
        "facts": [fact.as_json() for fact in funds.facts],
        "funds_status": funds.status,
        "authorised": funds.authorised,
        "captured": funds.captured,
        "refunded": funds.refunded,
        "charged_back": funds.charged_back,
        "cancelled": funds.cancelled,
        "version": payment.version,
        "updated_at": payment.updated_at,
    }


_CHANGING = (
    "psp_reference",
    "state",
    "reason",
    "facts",
    "funds_status",
    "authorised",
    "captured",
    "refunded",
    "charged_back",
    "cancelled",
    "version",
    "updated_at",
    "newest_hash",
)
_INSERT = insert_rows(payments, [column.name for column in payments.columns])
_UPDATE = update_rows(payments, "payment_id", _CHANGING)
_APPEND = insert_rows(payment_events, [column.name for column in payment_events.columns])
