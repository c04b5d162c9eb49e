"""What the use cases and the saga need from the outside, as Protocols that they own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from app.domain.money import Money
from app.domain.payment import Change, Payment
from app.domain.saga import Command, HandedOut, Offer, Received, Reply, Response, StepRecord
from app.services.review_ports import OperatorActionRepository, ReviewRepository


class NewId(Protocol):
    """Makes fresh identifiers that sort by the time they were made (UUIDv7, RFC 9562)."""

    def __call__(self) -> UUID:
        """Return an identifier that was never returned before."""
        ...


class PaymentRepository(Protocol):
    """The payments, one aggregate at a time."""

    def add(self, change: Change) -> None:
        """Insert a new payment with the event that began it.

        Raises:
            MerchantReferenceTaken: We started another payment under this reference.
            ExternalPaymentExists: Another worker has just kept this external payment.
        """
        ...

    def get_for_update(self, payment_id: UUID) -> Payment:
        """Load one payment and hold its row lock until the transaction ends.

        Raises:
            PaymentNotFound: No such payment.
        """
        ...

    def save(self, change: Change) -> None:
        """Write the payment and append the events of ``change``. The caller holds the row lock."""
        ...


class SagaRepository(Protocol):
    """The sagas' progress, as far as use cases move it. Lock order: payment first, then saga."""

    def start(self, payment: Payment, *, now: datetime) -> None:
        """Create the payment's saga, due at once."""
        ...

    def follow(self, payment: Payment, *, now: datetime) -> None:
        """Put the saga where the payment's flow is: due at once, or resting in a rest state.

        Breaks a runner's claim: what that runner brings back is no longer written.
        """
        ...

    def wake(self, payment_id: UUID, *, now: datetime) -> None:
        """Let the saga look at the payment at once. A running claim stays valid."""
        ...

    def reopen_undo(self, payment_id: UUID) -> None:
        """Let every step be undone once more, as a new decision with new idempotency keys."""
        ...

    def definition_version(self, payment_id: UUID) -> int:
        """Return the version of the definition that the payment's saga began under."""
        ...

    def steps(self, payment_id: UUID) -> Sequence[StepRecord]:
        """Return the step records of the payment's saga."""
        ...

    def put_steps(
        self, payment_id: UUID, records: Collection[StepRecord], *, now: datetime
    ) -> None:
        """Insert or update step records of the payment's saga."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The HTTP answer that a repeated request gets again."""

    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHolder:
    """Who holds an Idempotency-Key already.

    Attributes:
        answer: None while the first request is running, or after it died.
        lease_until: Until when the first request may be running.
    """

    fingerprint: bytes
    payment_id: UUID
    answer: StoredAnswer | None
    lease_until: datetime


class IdempotencyRepository(Protocol):
    """Idempotency-Keys of the merchant API, one space of keys for each merchant account."""

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
        """Claim a key for a new payment, waiting for a concurrent claim to commit or roll back.

        Returns:
            None if the key is ours now; else its holder, whose row stays locked.
        """
        ...

    def extend(self, merchant_account: str, key: str, *, lease_until: datetime) -> None:
        """Take over the key of a request that died."""
        ...

    def answer(self, merchant_account: str, key: str, answer: StoredAnswer) -> StoredAnswer:
        """Keep the answer for those who ask again, and return what is kept: the first one stays."""
        ...


class BreakRepository(Protocol):
    """Reconciliation differences, opened as soon as they are seen."""

    def open(self, kind: str, payment: Payment, amount: Money, *, now: datetime) -> None:
        """Open a break for this payment, unless one of this kind is open already."""
        ...


class Participant(Protocol):
    """A service that carries out commands: the PSP, the booking service, the mail server.

    The same idempotency key never acts twice there.
    """

    def handle(self, command: Command) -> Reply:
        """Carry out a command, and return what the service says.

        Raises:
            GatewayRejected: The service can do nothing with it; nothing happened there.
            GatewayNotAsked: No request left for it; nothing happened there.
            GatewayUnavailable, GatewayTimeout: What happened there is not known.
        """
        ...


#: The participants that this process can ask itself, by their ``service_id``.
Participants = Mapping[str, Participant]


class Transport(Protocol):
    """Carries commands to participants and their responses back, inside a transaction.

    Delivery is at least once in both directions: a command has one ``message_id`` and one
    idempotency key on every delivery, and a participant acts once under it.
    """

    def send(self, intent: StepRecord, command: Command, *, offered_until: datetime | None) -> None:
        """Queue the command of an intent; the same command again changes only its offer.

        Args:
            intent: The decision that it carries out.
            command: The message.
            offered_until: Until when a participant elsewhere may take it; None if the sender
                carries it out itself.
        """
        ...

    def withdraw(self, saga_id: UUID) -> None:
        """Offer the saga's commands to act no longer: it goes another way."""
        ...

    def receive(
        self, saga_ids: Collection[UUID], *, now: datetime
    ) -> Mapping[UUID, Sequence[Received]]:
        """Return, and mark as applied, what participants elsewhere answered to these sagas."""
        ...

    def keep(self, response: Response) -> None:
        """Keep a response that the sender brought back itself, and is applying."""
        ...

    def take(
        self,
        service_id: str,
        merchant_account: str,
        *,
        taken_by: str,
        limit: int,
        now: datetime,
        taken_until: datetime,
    ) -> Sequence[Offer]:
        """Hand out what is offered to a participant elsewhere, oldest first.

        What it does not answer until ``taken_until`` is handed out again. Never waits: what another
        participant is taking just now is passed over.
        """
        ...

    def payment_of(
        self, message_id: UUID, *, service_id: str, merchant_account: str
    ) -> UUID | None:
        """Return the payment that a command is about, for the caller to lock.

        Returns:
            None if no participant of this service and account has ever taken such a command.
        """
        ...

    def handed_out(self, message_id: UUID) -> HandedOut | None:
        """Return what became of a command that was taken; None if it is forgotten meanwhile.

        The caller has locked its payment. Its saga is locked until the transaction ends: a worker
        that decides about it does so before this transaction, or knows what came of it.
        """
        ...

    def answer(self, response: Response) -> bool:
        """Keep the response of a participant elsewhere, and wake its saga, which is locked.

        Returns:
            False if it is late, since the saga has gone another way: it is kept all the same.
        """
        ...


class UnitOfWork(Protocol):
    """One database transaction. Leaving the block without ``commit`` rolls back."""

    @property
    def payments(self) -> PaymentRepository:
        """The payments inside this transaction."""
        ...

    @property
    def sagas(self) -> SagaRepository:
        """The sagas inside this transaction."""
        ...

    @property
    def idempotency(self) -> IdempotencyRepository:
        """The Idempotency-Keys inside this transaction."""
        ...

    @property
    def breaks(self) -> BreakRepository:
        """The breaks inside this transaction."""
        ...

    @property
    def reviews(self) -> ReviewRepository:
        """The reviews inside this transaction."""
        ...

    @property
    def operator_actions(self) -> OperatorActionRepository:
        """The audit log inside this transaction."""
        ...

    @property
    def transport(self) -> Transport:
        """The messages inside this transaction."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def commit(self) -> None:
        """Make the work durable."""
        ...


class UnitOfWorkFactory(Protocol):
    """Opens a fresh unit of work."""

    def __call__(self) -> UnitOfWork:
        """Return a unit of work that has not begun.

        Raises:
            StoreUnavailable: On entering, or inside: Postgres can't be reached or written.
        """
        ...
