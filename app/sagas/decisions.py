"""What a saga does next, decided from what is on record. Pure: no I/O and no clock of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import Payment
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.definition import Act, Saga, Step, Undo


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Make a call: the first one, or the same one again.

    Attributes:
        record: The intent, to be on disk before the call.
        on_rejected: Where the flow goes if the party refuses the request itself; None for an undo,
            which is tried again.
        on_deadline: Where it goes if that happens after a call that stayed without answer.
    """

    act: Act
    record: StepRecord
    on_rejected: FlowEvent | None = None
    on_deadline: FlowEvent | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until a webhook comes, at most until ``due``.

    Attributes:
        due: The latest time to look again.
        jitter_seconds: How much of the wait before ``due`` may be cut off by chance.
    """

    due: datetime
    jitter_seconds: float = 0.0


#: How often an undo is decided anew after one was carried out in vain; then a person is asked.
ROUNDS_MAX = 5

#: How long after a call that never left it is made, at the most: breakers pause about as long.
PUT_OFF_SECONDS = 5.0

#: For so long an undo may be put off; then a person is asked.
PUT_OFF_MAX = timedelta(days=6)

Decision = FlowEvent | Ask | Wait
Records = Mapping[tuple[str, Direction], StepRecord]


def decide(
    saga: Saga,
    payment: Payment,
    records: Records,
    *,
    now: datetime,
    just_called: StepRecord | None,
) -> Decision:
    """Return the next thing to do for a payment that is not in a rest state.

    Args:
        saga: The definition.
        payment: As it stands, locked by the caller.
        records: The saga's step records.
        now: Aware UTC.
        just_called: The record of a call that has just come back without moving the flow; None if
            the saga was found due, or has just moved.
    """
    if payment.state is FlowState.COMPENSATING:
        return _decide_undo(saga, payment, records, now=now, just_called=just_called)
    step = saga.step(payment.state)
    return _decide_act(step, payment, records.get((step.name, Direction.ACT)), now, just_called)


def _decide_act(  # noqa: PLR0911  # one line a case, read top to bottom
    step: Step,
    payment: Payment,
    record: StepRecord | None,
    now: datetime,
    just_called: StepRecord | None,
) -> Decision:
    if event := step.evidence(payment):
        return event
    if record is None:
        return _ask(step, _intent(step, Direction.ACT, now))
    deadline = record.started_at + timedelta(seconds=step.deadline_seconds)
    if now >= deadline:
        return step.on_deadline(record)
    if record.status is StepStatus.WAITING:
        if just_called is None and step.ask_again_seconds is not None:
            return _ask(step, _again(record, now))
        patience = step.ask_again_seconds
        asks_again = now + timedelta(seconds=patience) if patience is not None else deadline
        return Wait(min(asks_again, deadline))
    delay = step.retry.delay_after(record.attempts)
    if record.status is StepStatus.PUT_OFF:
        delay = PUT_OFF_SECONDS
    if delay is None:
        return step.on_deadline(record)
    if just_called is None:
        return _ask(step, _again(record, now))
    return Wait(min(now + timedelta(seconds=delay), deadline), jitter_seconds=delay)


def _decide_undo(
    saga: Saga,
    payment: Payment,
    records: Records,
    *,
    now: datetime,
    just_called: StepRecord | None,
) -> Decision:
    """Undo the steps that left something behind, last first; each must be done before the next."""
    for step in reversed(saga.steps):
        undo = step.undo
        if undo is None or not undo.is_needed(payment, records.get((step.name, Direction.ACT))):
            continue
        record = records.get((step.name, Direction.UNDO))
        if undo.is_done(payment) or (record and record.status is StepStatus.DONE):
            continue
        return _undo(step, undo, payment, record, now=now, just_called=just_called)
    return FlowEvent.UNDO_COMPLETED


def _undo(  # noqa: PLR0911  # one line a case, read top to bottom
    step: Step,
    undo: Undo,
    payment: Payment,
    record: StepRecord | None,
    *,
    now: datetime,
    just_called: StepRecord | None,
) -> Decision:
    if undo.is_refused(payment) or (record and record.status is StepStatus.REFUSED):
        return FlowEvent.UNDO_FAILED
    if record is None:
        return Ask(act=undo.act, record=_intent(step, Direction.UNDO, now))
    if _is_told_of(record, payment):
        return _undo_anew(step, undo, record, now)
    delay = undo.retry.delay_after(record.attempts)
    if record.status is StepStatus.PUT_OFF:
        delay = PUT_OFF_SECONDS if now < record.started_at + PUT_OFF_MAX else None
    if delay is None:
        return FlowEvent.UNDO_FAILED
    if record.status is StepStatus.WAITING:
        # A webhook needs longer than a blip, and a wake by some other fact is no reason to ask
        # again.
        asks_again = record.asked_at + timedelta(seconds=max(delay, undo.webhook_seconds))
        if now < asks_again:
            return Wait(asks_again)
    elif just_called is not None:
        # Half the bound is certain: money is held meanwhile, and the tries are few.
        return Wait(now + timedelta(seconds=delay), jitter_seconds=delay / 2)
    return Ask(act=undo.act, record=_again(record, now))


def _is_told_of(record: StepRecord, payment: Payment) -> bool:
    """Tell whether the PSP has reported how the request ended that it took."""
    reference = record.response.get("psp_reference")
    return record.status is StepStatus.WAITING and payment.funds.tells_of(str(reference))


def _undo_anew(step: Step, undo: Undo, record: StepRecord, now: datetime) -> Decision:
    """Decide to undo once more: a void overtook the authorisation, a refund failed later.

    Asking again under the old key would only bring back the old answer.
    """
    if record.round >= ROUNDS_MAX:
        return FlowEvent.UNDO_FAILED
    return Ask(
        act=undo.act,
        record=replace(_intent(step, Direction.UNDO, now), round=record.round + 1),
    )


def _ask(step: Step, record: StepRecord) -> Ask:
    return Ask(
        act=step.act,
        record=record,
        on_rejected=step.on_rejected,
        on_deadline=step.on_deadline(record),
    )


def _intent(step: Step, direction: Direction, now: datetime) -> StepRecord:
    return StepRecord(
        step=step.name,
        direction=direction,
        status=StepStatus.ASKED,
        round=1,
        attempts=1,
        response={},
        started_at=now,
        asked_at=now,
    )


def _again(record: StepRecord, now: datetime) -> StepRecord:
    has_left = record.status is not StepStatus.PUT_OFF
    return replace(
        record,
        status=StepStatus.ASKED,
        attempts=record.attempts + has_left,
        started_at=record.started_at if record.attempts else now,
        asked_at=now,
    )
