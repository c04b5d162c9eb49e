"""What a saga does next, decided from what is on record. Pure: no I/O and no clock of its own."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import Payment
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.asking import Ask, Wait, again, intent
from app.sagas.compensation import decide_undo
from app.sagas.definition import Records, Saga, Stage, Step

Decision = FlowEvent | Sequence[Ask] | Wait


def decide(saga: Saga, payment: Payment, records: Records, *, now: datetime) -> Decision:
    """Return the next thing to do for a payment that is not in a rest state.

    Args:
        saga: The definition that the payment's saga began under.
        payment: As it stands, locked by the caller.
        records: The saga's step records.
        now: Aware UTC.

    Returns:
        The event that moves the flow, the calls to make side by side, or how long to wait.
    """
    if payment.state is FlowState.COMPENSATING:
        return decide_undo(saga, payment, records, now)
    return _decide_stage(saga, saga.stage(payment.state), payment, records, now)


def _decide_stage(
    saga: Saga, stage: Stage, payment: Payment, records: Records, now: datetime
) -> Decision:
    """Ask what is to be asked; the first step that can't work says where the flow goes."""
    asks: list[Ask] = []
    waits: list[Wait] = []
    worked = saga.on_done(stage, payment)
    for step in stage.steps:
        record = records.get((step.name, Direction.ACT))
        match _decide_step(step, payment, record, worked, now):
            case Ask() as ask:
                asks.append(ask)
            case Wait() as wait:
                waits.append(wait)
            case event:
                if event is not worked:
                    return event
    if asks:
        return asks
    return min(waits, key=lambda wait: wait.due) if waits else worked


def _decide_step(
    step: Step, payment: Payment, record: StepRecord | None, worked: FlowEvent, now: datetime
) -> FlowEvent | Ask | Wait:
    if event := step.evidence(payment):
        return event
    if record is None:
        return _ask(step, payment, None, now)
    if event := _outcome(step, record, worked):
        return event
    deadline = record.started_at + timedelta(seconds=step.deadline_seconds)
    asks_again = _asks_again_at(step, record, deadline, now)
    if now >= deadline or asks_again is None:
        return step.on_unresolved(record)
    if now < asks_again:
        return Wait(min(asks_again, deadline))
    return _ask(step, payment, record, now)


def _outcome(step: Step, record: StepRecord, worked: FlowEvent) -> FlowEvent | None:
    """Return the event that an answer made certain; None while the outcome is open."""
    match record.status:
        case StepStatus.DONE:
            return worked
        case StepStatus.REFUSED:
            return step.on_refused
        case StepStatus.REJECTED:
            return step.on_rejected
        case StepStatus.UNRESOLVED:
            return step.on_unresolved(record)
        case _:
            return None


def _asks_again_at(
    step: Step, record: StepRecord, deadline: datetime, now: datetime
) -> datetime | None:
    """Return when an open step is asked again; None if it was asked as often as it may be."""
    if record.status is StepStatus.SENT:
        return deadline
    if record.status is StepStatus.WAITING:
        patience = step.ask_again_seconds
        return deadline if patience is None else record.asked_at + timedelta(seconds=patience)
    is_asked = record.status is StepStatus.ASKED
    if is_asked and step.retry.delay_after(record.attempts) is None:
        return None
    return record.due or now


def _ask(step: Step, payment: Payment, before: StepRecord | None, now: datetime) -> Ask:
    request = step.request(payment)
    record = again(before, now) if before else intent(step.name, Direction.ACT, now)
    return Ask(
        request=request,
        record=replace(record, request=request.subject),
        answered_by=record.started_at + timedelta(seconds=step.deadline_seconds),
        has_undo=step.undo is not None,
        is_after_put_off=before is not None and before.status is StepStatus.PUT_OFF,
    )
