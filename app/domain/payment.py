"""One payment: its references, its two machines, and the events that made it what it is.

A payment is the fold of its events: ``Payment.after`` is the only place where one changes, both
when it is changed for the first time and when ``countersign verify`` builds it again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.domain.facts import Fact, FactKind
from app.domain.flow import FlowEvent, FlowState, next_state
from app.domain.funds import Funds
from app.domain.money import Money
from app.errors import IllegalTransition


class CaptureMode(StrEnum):
    """Who asks for the capture: the merchant later, or the flow."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


class EventKind(StrEnum):
    """What an event says. The first two begin a payment; notes change nothing."""

    STARTED = "payment_started"
    REPORTED = "payment_reported"
    FACT_RECORDED = "fact_recorded"
    FLOW_MOVED = "flow_moved"
    TRANSITION_REFUSED = "transition_refused"
    STEP_ANSWERED = "step_answered"
    STEP_FAILED = "step_failed"
    NOTED = "noted"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvent:
    """One line of a payment's history.

    Attributes:
        kind: What the line says.
        at: When we recorded it, aware UTC.
        cause: What made it so: ``webhook:<guid>``, ``saga:<step>``, ``operator:<name>``, ``api``.
        data: JSON values; what they mean follows from ``kind``.
    """

    kind: EventKind
    at: datetime
    cause: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as a value.

    Attributes:
        payment_id: Ours, UUIDv7.
        psp_reference: The PSP's, once it told us.
        reason: Why the flow did not end in ``fin``: the event that said no.
        details: What the steps need beyond the amount: payment method, shopper, booking.
        version: How many events made this payment.
    """

    payment_id: UUID
    merchant_account: str
    merchant_reference: str
    amount: Money
    capture: CaptureMode
    details: Mapping[str, Mapping[str, str]]
    psp_reference: str | None
    state: FlowState
    reason: str | None
    funds: Funds
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def is_covered(self) -> bool:
        """True while what is held and what is captured make up the payment's amount."""
        return self.funds.held + self.funds.captured >= self.amount.amount_minor

    @property
    def psp_references(self) -> set[str]:
        """Every reference that the PSP authorised it under: one, as a rule."""
        authorised = {
            fact.reference for fact in self.funds.facts if fact.kind is FactKind.AUTHORISED
        }
        return authorised | {self.psp_reference} if self.psp_reference else authorised

    def after(self, event: PaymentEvent) -> "Payment":
        """Return the payment as it stands after ``event``.

        Raises:
            IllegalTransition: The event moves the flow along a row that the table does not have.
        """
        changed = replace(self, version=self.version + 1, updated_at=event.at)
        match event.kind:
            case EventKind.STARTED | EventKind.REPORTED:
                raise ValueError("a payment begins once")
            case EventKind.FACT_RECORDED:
                fact = Fact.from_json(event.data)
                funds = self.funds.with_fact(fact)
                return replace(changed, funds=funds, psp_reference=self._psp_reference(event, fact))
            case EventKind.FLOW_MOVED:
                moved_by = FlowEvent(str(event.data["event"]))
                state = next_state(self.state, moved_by)
                return replace(changed, state=state, reason=self._reason(state, moved_by))
            case (
                EventKind.TRANSITION_REFUSED
                | EventKind.STEP_ANSWERED
                | EventKind.STEP_FAILED
                | EventKind.NOTED
            ):
                return changed

    def _reason(self, state: FlowState, event: FlowEvent) -> str | None:
        if state in _NAMES_ITS_REASON:
            return event.value
        return None if state in _GOES_ON else self.reason

    def _psp_reference(self, event: PaymentEvent, fact: Fact) -> str | None:
        """The PSP numbers attempts: the one that it authorised is the payment's, else the first."""
        told = event.data.get("payment_psp_reference")
        is_first_success = not self.funds.has(FactKind.AUTHORISED)
        is_better = fact.kind is FactKind.AUTHORISED and is_first_success
        if told is None or (self.psp_reference is not None and not is_better):
            return self.psp_reference
        return str(told)


#: States that a "no" leads to; the event that said it is the payment's reason.
_NAMES_ITS_REASON = frozenset({FlowState.DECLINED, FlowState.COMPENSATING, FlowState.MANUAL_REVIEW})

#: States that a payment comes to on its way to ``fin``: a "no" before them does not count any more.
_GOES_ON = frozenset(
    {FlowState.BOOKING_CONFIRMATION, FlowState.CAPTURE, FlowState.EMAIL, FlowState.FIN}
)


def begin(payment_id: UUID, event: PaymentEvent) -> Payment:
    """Return the payment that a ``payment_started`` or ``payment_reported`` event begins."""
    data = event.data
    details = data["details"]
    amount_minor = data["amount_minor"]
    if not isinstance(details, Mapping) or not isinstance(amount_minor, int):
        raise TypeError("the event does not begin a payment")
    is_ours = event.kind is EventKind.STARTED
    return Payment(
        payment_id=payment_id,
        merchant_account=str(data["merchant_account"]),
        merchant_reference=str(data["merchant_reference"]),
        amount=Money(amount_minor, str(data["currency"])),
        capture=CaptureMode(str(data["capture"])),
        details=details,
        psp_reference=None if is_ours else str(data["payment_psp_reference"]),
        state=FlowState.FRAUD_CHECK if is_ours else FlowState.EXTERNAL,
        reason=None,
        funds=Funds(),
        version=1,
        created_at=event.at,
        updated_at=event.at,
    )


def rebuild(payment_id: UUID, events: Iterable[PaymentEvent]) -> Payment:
    """Fold a payment's whole history, oldest first, into the payment."""
    history = iter(events)
    payment = begin(payment_id, next(history))
    for event in history:
        payment = payment.after(event)
    return payment


@dataclass(slots=True, kw_only=True)
class Change:
    """A payment being changed inside one transaction: the value, and the events not yet stored.

    Attributes:
        payment: The payment as it stands after the events so far.
        at: The time of this change, aware UTC; every event of it carries the same.
        cause: See ``PaymentEvent``.
        events: What happened, in order; the unit of work stores them with the payment.
    """

    payment: Payment
    at: datetime
    cause: str
    events: list[PaymentEvent] = field(default_factory=list)

    def add(self, kind: EventKind, data: Mapping[str, object]) -> None:
        """Apply one event.

        Raises:
            IllegalTransition: See ``Payment.after``; nothing is applied then.
        """
        event = PaymentEvent(kind=kind, at=self.at, cause=self.cause, data=data)
        self.payment = self.payment.after(event)
        self.events.append(event)

    def record_fact(self, fact: Fact, *, payment_psp_reference: str | None) -> None:
        """Let the funds learn what the PSP said, and the payment its PSP reference."""
        data = fact.as_json()
        if payment_psp_reference:
            data["payment_psp_reference"] = payment_psp_reference
        self.add(EventKind.FACT_RECORDED, data)

    def move(self, event: FlowEvent, **why: object) -> bool:
        """Move the flow, or keep the refusal if the table has no row for it.

        Returns:
            True if the state changed. A row that stays is no event of its own: the fact that caused
            it is recorded already.
        """
        before = self.payment.state
        try:
            after = next_state(before, event)
        except IllegalTransition as refusal:
            refused = {"state": refusal.state, "event": refusal.event, **why}
            self.add(EventKind.TRANSITION_REFUSED, refused)
            return False
        if after is before:
            return False
        self.add(EventKind.FLOW_MOVED, {"event": event, "from": before, "to": after, **why})
        return True
