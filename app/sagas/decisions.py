"""What a saga does next, decided from what is on record. Pure: no I/O and no clock of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import Payment
from app.domain.saga import Direction, Reply, Request, StepRecord, StepStatus
from app.errors import GatewayError, GatewayNotAsked, GatewayRejected
from app.sagas.definition import DecidedBy, Records, RetryPolicy, Saga, Stage, Step, Undo


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Make a call: the first one, or the same one again.

    Attributes:
        request: What to ask, and of whom.
        record: The intent, to be on disk before the call.
        answered_by: When to look again if a participant elsewhere has not answered by then.
        has_undo: True if the step's undo is to be registered together with the intent.
    """

    request: Request
    record: StepRecord
    answered_by: datetime
    has_undo: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until a webhook or a response comes, at most until ``due``."""

    due: datetime


#: How often an undo is decided anew after one was carried out in vain; then a person is asked.
ROUNDS_MAX = 5

#: How long after a call that never left it is made, at the most: breakers pause about as long.
PUT_OFF_SECONDS = 5.0

#: For so long an undo may be put off; then a person is asked.
PUT_OFF_MAX = timedelta(days=6)

#: How long a person is not asked yet about an undo that failed while another one goes on.
OTHERS_WAIT = timedelta(hours=1)

#: Patience with a participant elsewhere that has an undo to carry out, before it is offered again.
ELSEWHERE = timedelta(minutes=1)

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
        return _decide_undo(saga, payment, records, now)
    return _decide_stage(saga, saga.stage(payment.state), payment, records, now)


def after_call(
    saga: Saga,
    asked: StepRecord,
    reply: Reply | GatewayError,
    *,
    now: datetime,
    draw: Callable[[], float],
) -> StepRecord:
    """Return what a call made of its step's record, and when it is to be made again.

    Args:
        saga: The definition.
        asked: The intent that was on disk.
        reply: What the participant said, or how the call failed.
        now: Aware UTC, after the call.
        draw: Draws from 0 to 1: how much of a wait's bound to wait.
    """
    step = next(step for step in saga.steps if step.name == asked.step)
    status = _status_after(step, asked, reply)
    response = reply.data if isinstance(reply, Reply) else asked.response
    record = replace(asked, status=status, response=response)
    if status not in {StepStatus.ASKED, StepStatus.PUT_OFF}:
        return record
    delay = PUT_OFF_SECONDS if status is StepStatus.PUT_OFF else _delay(step, asked)
    if delay is None:
        return record
    drawn = draw()
    if asked.direction is Direction.UNDO:
        # Half the bound is certain: money is held meanwhile, and the tries are few.
        drawn = (1 + drawn) / 2
    return replace(record, due=now + timedelta(seconds=delay * drawn))


def _status_after(step: Step, asked: StepRecord, reply: Reply | GatewayError) -> StepStatus:
    is_undo = asked.direction is Direction.UNDO
    if isinstance(reply, Reply):
        if not reply.success:
            return StepStatus.REFUSED
        decided_by = step.undo.decided_by if is_undo and step.undo else step.decided_by
        return StepStatus.DONE if decided_by is DecidedBy.RESPONSE else StepStatus.WAITING
    if isinstance(reply, GatewayNotAsked):
        return StepStatus.PUT_OFF
    if not isinstance(reply, GatewayRejected) or is_undo:
        return StepStatus.ASKED
    # After a call that stayed without answer a refusal says nothing of what that call did.
    return StepStatus.REJECTED if asked.attempts == 1 else StepStatus.UNRESOLVED


def _delay(step: Step, record: StepRecord) -> float | None:
    retry: RetryPolicy = step.retry
    if record.direction is Direction.UNDO and step.undo:
        retry = step.undo.retry
    return retry.delay_after(record.attempts)


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
        return _ask(step, payment, _intent(step.name, Direction.ACT, now))
    if event := _outcome(step, record, worked):
        return event
    deadline = record.started_at + timedelta(seconds=step.deadline_seconds)
    asks_again = _asks_again_at(step, record, deadline, now)
    if now >= deadline or asks_again is None:
        return step.on_unresolved(record)
    if now < asks_again:
        return Wait(min(asks_again, deadline))
    return _ask(step, payment, _again(record, now))


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
    if record.due is None and step.retry.delay_after(record.attempts) is None:
        return None
    return record.due or now


def _decide_undo(saga: Saga, payment: Payment, records: Records, now: datetime) -> Decision:
    """Undo what the steps left behind, last first.

    The next undo begins when the one before it is done, or waits for its next try or its webhook:
    a booking service that is away does not keep the shopper's money. Undos that are about the same
    thing wait for each other (``Undo.after``).
    """
    undos = _unblocked_undos(saga, payment, records)
    if not undos:
        return FlowEvent.UNDO_COMPLETED
    waits: list[datetime] = []
    for step, undo in undos:
        match _undo(step, undo, payment, records, now):
            case Ask() as ask:
                return [ask]
            case Wait(due):
                waits.append(due)
            case None:
                pass
    has_failed = len(waits) < len(undos)
    if has_failed and min(waits, default=now + PUT_OFF_MAX) > now + OTHERS_WAIT:
        return FlowEvent.UNDO_FAILED
    return Wait(min(waits))


def failed_undo(saga: Saga, payment: Payment, records: Records, *, now: datetime) -> str | None:
    """Return the step whose undo a person must look at; the last one if several, None if none."""
    for step, undo in _unblocked_undos(saga, payment, records):
        if _undo(step, undo, payment, records, now) is None:
            return step.name
    return None


def undos_needed(saga: Saga, payment: Payment, records: Records) -> list[tuple[Step, Undo]]:
    """Return what is left to undo, last step first."""
    return [
        (step, step.undo)
        for step in reversed(saga.steps)
        if step.undo
        and step.undo.is_needed(payment, records.get((step.name, Direction.ACT)))
        and not step.undo.is_done(payment)
        and not _has(records.get((step.name, Direction.UNDO)), StepStatus.DONE)
    ]


def _unblocked_undos(saga: Saga, payment: Payment, records: Records) -> list[tuple[Step, Undo]]:
    """Return what is left to undo and waits for no other undo, last step first."""
    unfinished: set[str] = set()
    found = []
    for step, undo in undos_needed(saga, payment, records):
        if not unfinished & undo.after:
            found.append((step, undo))
        unfinished.add(step.name)
    return found


def _undo(  # noqa: PLR0911  # one line a case, read top to bottom
    step: Step, undo: Undo, payment: Payment, records: Records, now: datetime
) -> Ask | Wait | None:
    """Return what to do about one undo; None if a person must look."""
    record = records.get((step.name, Direction.UNDO))
    request = undo.request(payment, records)
    if record is None or record.status is StepStatus.REGISTERED:
        round_ = record.round if record else 1
        return _ask_undo(
            undo, request, replace(_intent(step.name, Direction.UNDO, now), round=round_)
        )
    is_another = record.request not in {None, request.subject}
    if not is_another and (record.status is StepStatus.REFUSED or undo.is_refused(payment, record)):
        return None
    if is_told_of(record, payment):
        return _undo_anew(undo, request, record, now)
    asks_again = _undo_asks_again_at(undo, record, now)
    # What was taken is waited for, also when something else is called for by now: two requests
    # about the same money, each unaware of the other, would only refuse each other.
    if now < asks_again and (record.status is StepStatus.WAITING or not is_another):
        return Wait(asks_again)
    if is_another:
        return _undo_anew(undo, request, record, now)
    if _is_exhausted(undo, record, now):
        return None
    return _ask_undo(undo, request, _again(record, now))


def _is_exhausted(undo: Undo, record: StepRecord, now: datetime) -> bool:
    if record.status is StepStatus.PUT_OFF:
        return now >= record.started_at + PUT_OFF_MAX
    return undo.retry.delay_after(record.attempts) is None


def _undo_asks_again_at(undo: Undo, record: StepRecord, now: datetime) -> datetime:
    """A webhook needs longer than a blip, and a wake by some other fact is no reason to ask."""
    if record.status not in {StepStatus.WAITING, StepStatus.SENT}:
        return record.due or now
    delay = undo.retry.delay_after(record.attempts) or 0.0
    return record.asked_at + timedelta(seconds=max(delay, undo.webhook_seconds))


def is_told_of(record: StepRecord, payment: Payment) -> bool:
    """Tell whether the PSP has reported how the request ended that it took."""
    reference = record.response.get("psp_reference")
    return record.status is StepStatus.WAITING and payment.funds.tells_of(str(reference))


def _undo_anew(undo: Undo, request: Request, record: StepRecord, now: datetime) -> Ask | None:
    """Decide to undo once more: a void overtook the authorisation, a refund failed later.

    Asking again under the old key would only bring back the old answer.
    """
    if record.round >= ROUNDS_MAX:
        return None
    intent = replace(_intent(record.step, Direction.UNDO, now), round=record.round + 1)
    return _ask_undo(undo, request, intent)


def _ask(step: Step, payment: Payment, record: StepRecord) -> Ask:
    request = step.request(payment)
    return Ask(
        request=request,
        record=replace(record, request=request.subject),
        answered_by=record.started_at + timedelta(seconds=step.deadline_seconds),
        has_undo=step.undo is not None,
    )


def _ask_undo(undo: Undo, request: Request, record: StepRecord) -> Ask:
    delay = timedelta(seconds=undo.retry.delay_after(record.attempts) or 0.0)
    return Ask(
        request=request,
        record=replace(record, request=request.subject),
        answered_by=record.asked_at + max(delay, ELSEWHERE),
    )


def _intent(step: str, direction: Direction, now: datetime) -> StepRecord:
    return StepRecord(
        step=step,
        direction=direction,
        status=StepStatus.ASKED,
        round=1,
        attempts=1,
        request=None,
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
        due=None,
    )


def _has(record: StepRecord | None, status: StepStatus) -> bool:
    return record is not None and record.status is status
