"""Reconciliation breaks in Postgres."""

from datetime import datetime

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from app.domain.money import Money
from app.domain.payment import Payment
from app.persistence.tables import breaks
from app.services.ports import NewId


class SqlBreaks:
    """The breaks inside one transaction."""

    def __init__(self, connection: Connection, *, new_id: NewId) -> None:
        """Work inside ``connection``'s transaction."""
        self._connection = connection
        self._new_id = new_id

    def open(self, kind: str, payment: Payment, amount: Money, *, now: datetime) -> None:
        """Open a break for this payment, unless one of this kind is open already."""
        self._connection.execute(
            insert(breaks)
            .values(
                break_id=self._new_id(),
                kind=kind,
                state="open",
                merchant_account=payment.merchant_account,
                payment_id=payment.payment_id,
                amount_minor=amount.amount_minor,
                currency=amount.currency,
                opened_at=now,
            )
            .on_conflict_do_nothing(
                index_elements=["kind", "payment_id"], index_where=text("state = 'open'")
            )
        )
