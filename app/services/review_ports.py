"""What the use cases of operators need from the outside, as Protocols that they own."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.domain.operators import OperatorAction
from app.domain.payment import Payment
from app.domain.reviews import Review
from app.domain.saga import Direction, StepRecord


class ReviewRepository(Protocol):
    """The payments that wait for a person."""

    def open(self, payment: Payment, *, step: str | None, now: datetime) -> None:
        """Put a payment that came to ``manual_review`` on a person's desk.

        Args:
            payment: As it stands; its reason says why.
            step: The step whose undo failed, if one did.
            now: Aware UTC.
        """
        ...

    def get(self, payment_id: UUID) -> Review | None:
        """Return the payment's open review; None if it is on nobody's desk."""
        ...

    def assign(self, payment_id: UUID, *, to: str) -> None:
        """Put the payment's open review on another desk."""
        ...

    def close(self, payment_id: UUID, *, now: datetime) -> None:
        """Take the payment off the desk that it lies on, if it does."""
        ...


class OperatorActionRepository(Protocol):
    """The audit log. It is written once, in the transaction of what it tells."""

    def add(self, action: OperatorAction) -> None:
        """Keep an action for ever."""
        ...


class Recovery(Protocol):
    """Says which step records an operator's action changes, by the saga's own definition."""

    def capture_again(
        self, version: int, records: Mapping[tuple[str, Direction], StepRecord], *, now: datetime
    ) -> Sequence[StepRecord]:
        """Let the capture be asked again: same key, patience anew."""
        ...

    def undo_again(
        self,
        version: int,
        payment: Payment,
        records: Mapping[tuple[str, Direction], StepRecord],
        *,
        now: datetime,
    ) -> Sequence[StepRecord]:
        """Let everything that is left to undo, and was asked before, be asked again at once."""
        ...

    def undo_skipped(
        self,
        version: int,
        payment: Payment,
        records: Mapping[tuple[str, Direction], StepRecord],
        *,
        step: str | None,
        note: Mapping[str, object],
        now: datetime,
    ) -> Sequence[StepRecord]:
        """Count the undo of a step as done, and with it those that are about the same thing."""
        ...
