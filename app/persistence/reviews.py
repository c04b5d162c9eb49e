"""The payments that wait for a person, in Postgres."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, select, text, update
from sqlalchemy.dialects.postgresql import insert

from app.domain.payment import Payment
from app.domain.reviews import Review, next_step
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
        """Put a payment that came to ``manual_review`` on a person's desk.

        It comes back to whoever had it the last time.
        """
        latest = select(reviews.c.owner).where(reviews.c.payment_id == payment.payment_id)
        latest = latest.order_by(reviews.c.opened_at.desc()).limit(1)
        owner = self._connection.execute(latest).scalar_one_or_none() or self._owner
        self._connection.execute(
            insert(reviews)
            .values(
                review_id=self._new_id(),
                payment_id=payment.payment_id,
                merchant_account=payment.merchant_account,
                owner=owner,
                reason=payment.reason,
                step=step,
                next_step=next_step(payment, step),
                opened_at=now,
            )
            .on_conflict_do_nothing(
                index_elements=["payment_id"], index_where=text("closed_at IS NULL")
            )
        )

    def get(self, payment_id: UUID) -> Review | None:
        """Return the payment's open review; None if it is on nobody's desk."""
        columns = [getattr(reviews.c, name) for name in _SHOWN]
        row = self._connection.execute(select(*columns).where(_is_open(payment_id))).one_or_none()
        return Review(**row._asdict()) if row else None

    def assign(self, payment_id: UUID, *, to: str) -> None:
        """Put the payment's open review on another desk."""
        self._connection.execute(update(reviews).where(_is_open(payment_id)).values(owner=to))

    def close(self, payment_id: UUID, *, now: datetime) -> None:
        """Take the payment off the desk that it lies on, if it does."""
        self._connection.execute(update(reviews).where(_is_open(payment_id)).values(closed_at=now))


_SHOWN = ("payment_id", "owner", "reason", "step", "next_step", "opened_at")


def _is_open(payment_id: UUID) -> ColumnElement[bool]:
    return (reviews.c.payment_id == payment_id) & reviews.c.closed_at.is_(None)
