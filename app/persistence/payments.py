"""Payments and their history in Postgres."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from app.domain.flow import FlowState
from app.domain.funds import Fact, Funds
from app.domain.history import GENESIS, seal
from app.domain.money import Money
from app.domain.payment import CaptureMode, Change, EventKind, Payment, PaymentEvent
from app.errors import ExternalPaymentExists, MerchantReferenceTaken, PaymentNotFound
from app.persistence.tables import payment_events, payments


class SqlPayments:
    """The payments inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work inside ``connection``'s transaction."""
        self._connection = connection

    def add(self, change: Change) -> None:
        """Insert a new payment with the events that began it.

        Raises:
            MerchantReferenceTaken: We started another payment under this reference.
            ExternalPaymentExists: Another worker has just kept this external payment. After either
                the transaction can't go on.
        """
        payment = change.payment
        hashes = list(_seals(GENESIS, payment, 1, change.events))
        is_ours = change.events[0].kind is EventKind.STARTED
        row = columns_of(payment, is_ours=is_ours) | {"newest_hash": hashes[-1]}
        try:
            self._connection.execute(insert(payments), row)
        except IntegrityError as error:
            if "uq_payments_merchant_reference" in str(error.orig):
                raise MerchantReferenceTaken from None
            if "uq_payments_external" in str(error.orig):
                raise ExternalPaymentExists from None
            raise
        self._append(payment, 1, change.events, hashes)

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

    def find_for_update(
        self, merchant_account: str, *, psp_reference: str | None, merchant_reference: str | None
    ) -> Payment | None:
        """Find a payment by our reference, else by the PSP's; see the port."""
        mine = payments.c.merchant_account == merchant_account
        ways: list[ColumnElement[bool]] = []
        if merchant_reference:
            ways.append((payments.c.merchant_reference == merchant_reference) & payments.c.is_ours)
        if psp_reference:
            ways.append(payments.c.psp_reference == psp_reference)
        for way in ways:
            query = select(payments).where(mine, way).order_by(payments.c.created_at).limit(1)
            row = self._connection.execute(query.with_for_update()).mappings().one_or_none()
            if row is not None:
                return payment_of(row)
        return None

    def save(self, change: Change) -> None:
        """Write the payment and append the events of ``change``. The caller holds the row lock."""
        if not change.events:
            return
        payment = change.payment
        before = payment.version - len(change.events)
        query = select(payments.c.newest_hash).where(
            payments.c.payment_id == payment.payment_id, payments.c.version == before
        )
        newest: bytes = self._connection.execute(query).scalar_one()
        hashes = list(_seals(newest, payment, before + 1, change.events))
        self._connection.execute(
            update(payments)
            .where(payments.c.payment_id == payment.payment_id)
            .values(_changing_columns(payment) | {"newest_hash": hashes[-1]})
        )
        self._append(payment, before + 1, change.events, hashes)
        change.events.clear()

    def _one(self, query: Select[Any]) -> Payment:
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise PaymentNotFound
        return payment_of(row)

    def _append(
        self, payment: Payment, first_seq: int, events: list[PaymentEvent], hashes: list[bytes]
    ) -> None:
        self._connection.execute(
            insert(payment_events),
            [
                {
                    "payment_id": payment.payment_id,
                    "seq": seq,
                    "kind": event.kind,
                    "cause": event.cause,
                    "data": event.data,
                    "hash": hash_,
                    "at": event.at,
                }
                for seq, (event, hash_) in enumerate(zip(events, hashes, strict=True), first_seq)
            ],
        )


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


def _seals(
    previous: bytes, payment: Payment, first_seq: int, events: list[PaymentEvent]
) -> Iterator[bytes]:
    for seq, event in enumerate(events, first_seq):
        previous = seal(previous, payment.payment_id, seq, event)
        yield previous
