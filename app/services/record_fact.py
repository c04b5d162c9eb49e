"""Use case: record what the PSP says about a payment, and let the flow follow."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
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
_RELEASES = frozenset({FactKind.CANCELLED, FactKind.EXPIRED})

#: A payment that the fraud check stopped never went to the PSP, so a success is not its own.
_NEVER_ASKED = frozenset({FlowEvent.FRAUD_CHECK_REFUSED, FlowEvent.FRAUD_CHECK_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A verified statement of the PSP about one payment.

    Attributes:
        fact: What it says; None if it says nothing about money (kept on the timeline all the same).
        title: What the PSP calls it, for the timeline.
        payment_psp_reference: The payment's PSP reference, if the statement tells it.
        cause: See ``PaymentEvent``.
    """

    fact: Fact | None
    title: str
    payment_psp_reference: str | None
    cause: str


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
    applied once is the inbox's promise, and keeps the timeline readable.

    Args:
        statement: What the PSP says.
        payment: The payment, locked in ``uow``.
        uow: The caller's transaction.
        now: Aware UTC.
        decision_window_seconds: How long after its start a shopper still wants the payment.
    """
    change = Change(payment=payment, at=now, cause=statement.cause)
    if statement.fact is None:
        change.add(EventKind.NOTED, {"note": statement.title})
        uow.payments.save(change)
        return change.payment
    change.record_fact(statement.fact, payment_psp_reference=statement.payment_psp_reference)
    is_news = change.payment.funds != payment.funds
    if is_news and _is_second_authorisation(payment, statement.fact):
        _open_break(uow, "DUPLICATE_PSP", change.payment, statement.fact, now)
    event = (
        _flow_event(change.payment, statement.fact, now, decision_window_seconds)
        if is_news
        else None
    )
    has_moved = event is not None and change.move(event)
    after = change.payment
    if has_moved and event is FlowEvent.MONEY_CAME_LATE:
        uow.sagas.reopen_undo(after.payment_id)
        _open_break(uow, "LATE_SUCCESS", after, statement.fact, now)
    if has_moved:
        uow.sagas.follow(after, now=now)
    elif after.state is FlowState.COMPENSATING:
        uow.sagas.wake(after.payment_id, now=now)
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


def _open_break(uow: UnitOfWork, kind: str, payment: Payment, fact: Fact, now: datetime) -> None:
    amount = Money(fact.amount_minor, payment.amount.currency)
    uow.breaks.open(kind, payment, amount, now=now)


def _is_second_authorisation(payment: Payment, fact: Fact) -> bool:
    """The PSP holds money twice for one payment, under two references of its own."""
    return fact.kind is FactKind.AUTHORISED and any(
        known.kind is FactKind.AUTHORISED and known.reference != fact.reference
        for known in payment.funds.facts
    )


def _flow_event(
    payment: Payment, fact: Fact, now: datetime, decision_window_seconds: int
) -> FlowEvent | None:
    """Name the fact for the flow: money may come too late, fall short, or go again."""
    event = EVENT_OF_FACT.get(fact.kind)
    if event in _MONEY_CAME and _is_late(payment, now, decision_window_seconds):
        return FlowEvent.MONEY_CAME_LATE
    if payment.is_covered or payment.state not in _NEEDS_COVER:
        return event
    if fact.kind is FactKind.AUTHORISED and payment.state in _BEFORE_AUTHORISATION:
        return FlowEvent.AUTHORISATION_FELL_SHORT
    if fact.kind in _RELEASES and payment.state not in _BEFORE_AUTHORISATION:
        return FlowEvent.HOLD_RELEASED
    if fact.kind is FactKind.CAPTURED and payment.state is FlowState.CAPTURE:
        return FlowEvent.CAPTURE_FELL_SHORT
    return event


def _is_late(payment: Payment, now: datetime, decision_window_seconds: int) -> bool:
    window_ends = payment.created_at + timedelta(seconds=decision_window_seconds)
    return payment.state is FlowState.COMPENSATED or (
        payment.state is FlowState.DECLINED
        and (now > window_ends or payment.reason in _NEVER_ASKED)
    )
