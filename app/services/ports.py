"""What the use cases and the saga need from the outside, as Protocols that they own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from app.domain.money import Money
from app.domain.payment import Change, Payment


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PspAnswer:
    """What the PSP answered to a request. The webhook decides the outcome, not this.

    Attributes:
        psp_reference: Of the payment (authorise) or of the modification (all others).
        result: The PSP's word: ``Authorised``, ``Refused``, ``received``.
    """

    psp_reference: str
    result: str


class PspGateway(Protocol):
    """The payment service provider.

    Every method may raise ``GatewayRejected`` (nothing happened there), ``GatewayUnavailable`` or
    ``GatewayTimeout`` (the outcome is unknown). The same key never acts twice.
    """

    def authorise(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        """Ask for an authorisation of the payment's amount."""
        ...

    def capture(self, payment: Payment, amount: Money, *, idempotency_key: str) -> PspAnswer:
        """Ask for a capture."""
        ...

    def cancel(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        """Ask to release the hold, by the PSP's reference, else by ours."""
        ...

    def refund(self, payment: Payment, amount: Money, *, idempotency_key: str) -> PspAnswer:
        """Ask to give back a captured amount."""
        ...

    def reverse(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        """Ask to cancel or refund the full amount, when it is unknown which of the two it takes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A yes or no that an outside service gave at once."""

    is_yes: bool
    evidence: Mapping[str, object]


class BookingGateway(Protocol):
    """The booking service. Raises as ``PspGateway`` does."""

    def confirm(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        """Ask to confirm the payment's booking."""
        ...

    def cancel(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        """Ask to cancel the booking, whether or not it was confirmed."""
        ...


class FraudGateway(Protocol):
    """The fraud check. Raises as ``PspGateway`` does."""

    def check(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        """Ask whether the payment may go on."""
        ...


class MailGateway(Protocol):
    """The mail server. Raises as ``PspGateway`` does."""

    def send_confirmation(self, payment: Payment) -> Verdict:
        """Send the booking confirmation.

        The Message-ID follows from the payment, so that a mail sent twice (a crash between the
        server's answer and our commit) can be told from two mails.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """The outside services that the saga's steps call."""

    psp: PspGateway
    booking: BookingGateway
    fraud: FraudGateway
    mail: MailGateway
