"""What the orchestrator needs of a transaction over many sagas, as Protocols."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol, Self
from uuid import UUID

from app.domain.payment import Payment
from app.domain.saga import Claim, Direction, StepRecord
from app.services.ports import PaymentRepository, SagaRepository, UnitOfWork

StoredRecords = dict[tuple[str, Direction], StepRecord]


class BatchSagas(SagaRepository, Protocol):
    """The sagas of a batch, as the orchestrator moves them."""

    def claim_due(
        self,
        versions: Collection[int],
        *,
        limit: int,
        as_of: datetime,
        now: datetime,
        lease_until: datetime,
        owner: str,
        payment_id: UUID | None,
    ) -> Sequence[tuple[Claim, Any]]:
        """Claim the sagas that have been due longest, and lock their payments, waiting never.

        Due is what is due at ``as_of``; free is what nobody holds a lease on ``now``.
        """
        ...

    def renew(self, claims: Sequence[Claim], *, lease_until: datetime) -> Mapping[UUID, Claim]:
        """Renew claims; those that somebody else has moved meanwhile are missing."""
        ...

    def records(self, saga_ids: Collection[UUID]) -> Mapping[UUID, StoredRecords]:
        """Return the step records of sagas."""
        ...

    def put_step(self, saga_id: UUID, record: StepRecord) -> None:
        """Write a step record."""
        ...

    def hold(self, claim: Claim, payment: Payment) -> None:
        """Keep the claim while the saga's current step becomes the payment's state."""
        ...

    def release(self, claim: Claim, payment: Payment, *, due: datetime) -> None:
        """Give up the claim; the saga waits and is due again at ``due``."""
        ...

    def put_off(self, claim: Claim, *, due: datetime) -> None:
        """Give up a claim whose saga can't be moved just now."""
        ...


class BatchPayments(PaymentRepository, Protocol):
    """The payments of a batch."""

    def lock(self, payment_ids: Collection[UUID]) -> Mapping[UUID, Payment]:
        """Load and lock payments; those that somebody else keeps locked are missing."""
        ...

    def take_over(self, row: Any) -> Payment:  # noqa: ANN401  # a row of the store's
        """Return the payment of a row that was claimed."""
        ...


class Batch(UnitOfWork, Protocol):
    """One transaction over many sagas."""

    @property
    def payments(self) -> BatchPayments:
        """The payments inside this transaction."""
        ...

    @property
    def sagas(self) -> BatchSagas:
        """The sagas inside this transaction."""
        ...

    def __enter__(self) -> Self: ...

    def attempt(self) -> AbstractContextManager[None]:
        """Take back what a block wrote if it raises."""
        ...

    def is_contention(self, error: Exception) -> bool:
        """Tell whether other transactions were in the way, rather than that we are wrong."""
        ...

    def write(self, *, now: datetime) -> None:
        """Write everything that was kept so far."""
        ...
