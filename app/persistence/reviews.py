"""The payments that wait for a person, in Postgres."""

from datetime import datetime

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from app.domain.payment import Payment
from app.domain.reviews import next_step
from app.persistence.tables import reviews
from app.services.ports import NewId


class SqlReviews:
    """The reviews inside one transaction."""

    def __init__(self, connection: Connection, *, owner: str, new_id: NewId) -> None:
        """Work inside ``connection``'s transaction.

        Args:
            connection: The transaction.
            owner: Whose desk new reviews land on.
            new_id: Makes review ids.
        """
        self._connection = connection
        self._owner = owner
        self._new_id = new_id

    def open(self, payment: Payment, *, step: str | None, now: datetime) -> None:
        """Put a payment that came to ``manual_review`` on a person's desk."""
        self._connection.execute(
            insert(reviews)
            .values(
                review_id=self._new_id(),
                payment_id=payment.payment_id,
                merchant_account=payment.merchant_account,
                owner=self._owner,
                reason=payment.reason,
                step=step,
                next_step=next_step(payment, step),
                opened_at=now,
            )
            .on_conflict_do_nothing(
                index_elements=["payment_id"], index_where=text("closed_at IS NULL")
            )
        )
