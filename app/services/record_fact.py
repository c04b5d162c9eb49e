"""Use case: record what the PSP says about a payment, and let the flow follow."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from app.domain.anomalies import LATE_SUCCESS, STATUS_MISMATCH, Anomaly, anomalies
from app.domain.facts import Fact, FactKind
from app.domain.flow import FlowEvent, FlowState
from app.domain.money import Money
from app.domain.payment import CaptureMode, Change, EventKind, Payment, PaymentEvent, begin
from app.services.ports import NewId, UnitOfWork

#: Which facts are news for the flow. All others change the funds alone.
EVENT_OF_FACT = MappingProxyType(
    {
        FactKind.AUTHORISED: FlowEvent.AUTHORISATION_SUCCEEDED,
        FactKind.REFUSED: FlowEvent.AUTHORISATION_REFUSED,
        FactKind.CAPTURED: FlowEvent.CAPTURE_SUCCEEDED,
        FactKind.CAPTURE_REFUSED: FlowEvent.CAPTURE_REFUSED,
        FactKind.CAPTURE_FAILED: FlowEvent.CAPTURE_REFUSED,
    }
)

_MONEY_CAME = frozenset({FlowEvent.AUTHORISATION_SUCCEEDED, FlowEvent.CAPTURE_SUCCEEDED})

#: Where the flow may still stop because the money is not there: before the booking is settled, or
#: while the capture is.
_BEFORE_AUTHORISATION = frozenset({FlowState.FRAUD_CHECK, FlowState.PREAUTH, FlowState.DECLINED})
_NEEDS_COVER = _BEFORE_AUTHORISATION | {FlowState.BOOKING_CONFIRMATION, FlowState.CAPTURE}
_RELEASES = frozenset({FactKind.CANCELLED, FactKind.EXPIRED, FactKind.UNSPECIFIED_REVERSAL})

#: Where nobody acts on a capture that failed: the flow is past its capture, or not ours. A person
#: is told, since something was sold and no money comes.
_PAST_ITS_CAPTURE = frozenset({FlowState.EMAIL, FlowState.FIN, FlowState.EXTERNAL})
_CAPTURE_LOST = frozenset({FactKind.CAPTURE_REFUSED, FactKind.CAPTURE_FAILED})

#: Payments that no success resumes. One that the fraud check stopped never went to the PSP, so that
#: the success is not its own; one that a person declined was closed with all that it left behind.
_CLOSED = frozenset(
    {FlowEvent.FRAUD_CHECK_REFUSED, FlowEvent.FRAUD_CHECK_FAILED, FlowEvent.FORCED_DECLINED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A verified statement of the PSP about one payment.

    Attributes:
        fact: What it says; None if it says nothing about money (kept on the timeline all the same).
        title: What the PSP calls it, for the timeline.
        payment_psp_reference: The payment's PSP reference, if the statement tells it.
        cause: See ``PaymentEvent``.
        is_redelivery: True if the same statement was recorded before, perhaps with another date.
    """

    fact: Fact | None
    title: str
    payment_psp_reference: str | None
    cause: str
    is_redelivery: bool = False


def record_fact(
    statement: Statement,
    payment: Payment,
    *,
    uow: UnitOfWork,
    now: datetime,
    decision_window_seconds: int,
) -> Payment:
    """Apply a statement to the payment whose row lock the caller holds. The caller commits.

    Applying the same statement twice is harmless, and so is any order of statements; that each is
    applied once is the inbox's promise, and keeps the timeline readable. A redelivery that changes
    nothing leaves no event.

    Args:
        statement: What the PSP says.
        payment: The payment, locked in ``uow``.
        uow: The caller's transaction.
        now: Aware UTC.
        decision_window_seconds: How long after its start a shopper still wants the payment.
    """
    if statement.is_redelivery and not _is_news(statement.fact, payment):
        return payment
    change = Change(payment=payment, at=now, cause=statement.cause)
    if statement.fact is None:
        change.add(EventKind.NOTED, {"note": statement.title})
        uow.payments.save(change)
        return change.payment
    change.record_fact(statement.fact, payment_psp_reference=statement.payment_psp_reference)
    event = (
        _flow_event(change.payment, statement.fact, now, decision_window_seconds)
        if _is_news_for_the_flow(statement.fact, payment, change.payment)
        else None
    )
    has_moved = event is not None and change.move(event)
    is_late = has_moved and event is FlowEvent.MONEY_CAME_LATE
    after = change.payment
    if is_late:
        uow.sagas.reopen_undo(after.payment_id)
    if has_moved:
        uow.sagas.follow(after, now=now)
    elif after.state is FlowState.COMPENSATING:
        uow.sagas.wake(after.payment_id, now=now)
    for kind, amount_minor in sorted(_breaks(payment, after, statement.fact, is_late=is_late)):
        uow.breaks.open(kind, after, Money(amount_minor, after.amount.currency), now=now)
    uow.payments.save(change)
    return after


def adopt_external(
    statement: Statement,
    *,
    merchant_account: str,
    merchant_reference: str,
    amount: Money,
    uow: UnitOfWork,
    now: datetime,
    new_id: NewId,
) -> Payment:
    """Keep a payment that the PSP tells us of and that we did not start. The caller commits."""
    reported = PaymentEvent(
        kind=EventKind.REPORTED,
        at=now,
        cause=statement.cause,
        data={
            "merchant_account": merchant_account,
            "merchant_reference": merchant_reference,
            "amount_minor": amount.amount_minor,
            "currency": amount.currency,
            "capture": CaptureMode.MANUAL.value,
            "details": {},
            "payment_psp_reference": statement.payment_psp_reference,
        },
    )
    payment = begin(new_id(), reported)
    change = Change(payment=payment, at=now, cause=statement.cause, events=[reported])
    if statement.fact is not None:
        change.record_fact(statement.fact, payment_psp_reference=statement.payment_psp_reference)
    uow.payments.add(change)
    return change.payment


def _is_news(fact: Fact | None, payment: Payment) -> bool:
    return fact is not None and payment.funds.with_fact(fact) != payment.funds


def _breaks(before: Payment, after: Payment, fact: Fact, *, is_late: bool) -> set[Anomaly]:
    """Return what this fact brought to light, for a person to look at."""
    found = set(anomalies(after.funds))
    if found:
        found -= anomalies(before.funds)
    if is_late:
        # It tells of a capture after the cancellation as well: one break for one event.
        found = {anomaly for anomaly in found if anomaly[0] != STATUS_MISMATCH}
        found.add((LATE_SUCCESS, fact.amount_minor))
    if _is_news(fact, before) and _is_capture_lost(after, fact):
        found.add((STATUS_MISMATCH, fact.amount_minor))
    return found


def _is_capture_lost(payment: Payment, fact: Fact) -> bool:
    """Tell whether a capture failed and nobody acts on it."""
    return (
        fact.kind in _CAPTURE_LOST
        and payment.state in _PAST_ITS_CAPTURE
        and not payment.funds.has_captured(fact.reference)
    )


def _is_news_for_the_flow(fact: Fact, before: Payment, after: Payment) -> bool:
    """What only gives another date to what was told moves no money, and so not the flow."""
    is_first = not before.funds.tells_of(fact.reference, fact.kind)
    return is_first or _money(after) != _money(before)


def _flow_event(
    payment: Payment, fact: Fact, now: datetime, decision_window_seconds: int
) -> FlowEvent | None:
    """Name the fact for the flow: money may come too late, fall short, or go again."""
    event = EVENT_OF_FACT.get(fact.kind)
    if event in _MONEY_CAME and _is_late(payment, now, decision_window_seconds):
        return FlowEvent.MONEY_CAME_LATE
    if fact.kind is FactKind.CAPTURED and payment.state in {FlowState.DECLINED, FlowState.CAPTURE}:
        return _event_of_capture(payment)
    if payment.is_covered or payment.state not in _NEEDS_COVER:
        return event
    if fact.kind is FactKind.AUTHORISED and payment.state in _BEFORE_AUTHORISATION:
        return FlowEvent.AUTHORISATION_FELL_SHORT
    if fact.kind in _RELEASES and payment.state not in _BEFORE_AUTHORISATION:
        return FlowEvent.HOLD_RELEASED
    return event


def _event_of_capture(payment: Payment) -> FlowEvent:
    if payment.state is FlowState.CAPTURE:
        is_whole = payment.funds.captured >= payment.amount.amount_minor
        return FlowEvent.CAPTURE_SUCCEEDED if is_whole else FlowEvent.CAPTURE_FELL_SHORT
    # What is captured was authorised, though that webhook is still under way.
    covered, short = FlowEvent.AUTHORISATION_SUCCEEDED, FlowEvent.AUTHORISATION_FELL_SHORT
    return covered if payment.is_covered else short


def _is_late(payment: Payment, now: datetime, decision_window_seconds: int) -> bool:
    if payment.state is not FlowState.DECLINED:
        return payment.state is FlowState.COMPENSATED
    window_ends = payment.created_at + timedelta(seconds=decision_window_seconds)
    return now > window_ends or payment.reason in _CLOSED


def _money(payment: Payment) -> tuple[int, int]:
    return payment.funds.held, payment.funds.kept
