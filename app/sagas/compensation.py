"""Undoing: what the steps left behind is undone, last first. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from app.domain.flow import FlowEvent
from app.domain.payment import Payment
from app.domain.saga import Direction, Request, StepRecord, StepStatus
from app.sagas.asking import Ask, Wait, again, intent
from app.sagas.definition import Records, Saga, Step, Undo

#: How often an undo is decided anew after one was carried out in vain; then a person is asked.
ROUNDS_MAX = 5

#: For so long an undo may be put off; then a person is asked.
PUT_OFF_MAX = timedelta(days=6)

#: How long a person is not asked yet about an undo that failed while another one goes on.
OTHERS_WAIT = timedelta(hours=1)

#: Patience with a participant elsewhere that has an undo to carry out, before it is offered again.
ELSEWHERE = timedelta(minutes=1)


def decide_undo(
    saga: Saga, payment: Payment, records: Records, now: datetime
) -> FlowEvent | Sequence[Ask] | Wait:
    """Undo what the steps left behind, last first.

    The next undo begins when the one before it is done, or waits for its next try or its webhook:
    a booking service that is away does not keep the shopper's money. Undos that are about the same
    thing wait for each other (``Undo.after``).
    """
    if not undos_needed(saga, payment, records):
        return FlowEvent.UNDO_COMPLETED
    undos, waits = _unblocked_undos(saga, payment, records, now)
    has_failed = False
    for step, undo in undos:
        match _undo(saga, step, undo, payment, records, now=now):
            case Ask() as ask:
                return [ask]
            case Wait(due):
                waits.append(due)
            case None:
                has_failed = True
    if has_failed and min(waits, default=now + PUT_OFF_MAX) > now + OTHERS_WAIT:
        return FlowEvent.UNDO_FAILED
    return Wait(min(waits))


def failed_undo(saga: Saga, payment: Payment, records: Records, *, now: datetime) -> str | None:
    """Return the step whose undo a person must look at; the last one if several, None if none."""
    undos, _waits = _unblocked_undos(saga, payment, records, now)
    for step, undo in undos:
        if _undo(saga, step, undo, payment, records, now=now) is None:
            return step.name
    return None


def undos_needed(saga: Saga, payment: Payment, records: Records) -> list[tuple[Step, Undo]]:
    """Return what is left to undo, last step first."""
    return [
        (step, step.undo)
        for step in reversed(saga.steps)
        if step.undo
        and step.undo.is_needed(payment, records.get((step.name, Direction.ACT)))
        and not _is_done(step.undo, payment, records.get((step.name, Direction.UNDO)))
    ]


def anew(record: StepRecord) -> StepRecord:
    """Return the record of an undo that is to be asked once more, as a new decision."""
    return replace(
        record,
        status=StepStatus.REGISTERED,
        round=record.round + 1,
        attempts=0,
        request=None,
        response={},
        due=None,
    )


def is_told_of(record: StepRecord, payment: Payment) -> bool:
    """Tell whether the PSP has reported how the request ended that it took."""
    reference = record.response.get("psp_reference")
    return record.status is StepStatus.WAITING and payment.funds.tells_of(str(reference))


def _is_done(undo: Undo, payment: Payment, record: StepRecord | None) -> bool:
    if record is not None and record.status is StepStatus.DONE:
        return True
    if record is not None and record.round > 1 and undo.is_untold(payment):
        # An answer came after all that was told: the evidence is older than the reason to ask.
        return False
    return undo.is_done(payment)


def _unblocked_undos(
    saga: Saga, payment: Payment, records: Records, now: datetime
) -> tuple[list[tuple[Step, Undo]], list[datetime]]:
    """Return what is left to undo and waits for no other undo, last step first.

    With it comes until when others wait for a request that was taken: it may yet take effect, also
    when nothing calls for it any more.
    """
    needed = {step.name for step, _undo in undos_needed(saga, payment, records)}
    unfinished: set[str] = set()
    unblocked, taken = [], []
    for step in reversed(saga.steps):
        undo, record = step.undo, records.get((step.name, Direction.UNDO))
        if undo is None:
            continue
        if step.name in needed:
            if not unfinished & undo.after:
                unblocked.append((step, undo))
            unfinished.add(step.name)
        elif record and record.status is StepStatus.WAITING and not is_told_of(record, payment):
            until = _asks_again_at(undo, record, now)
            if now < until:
                unfinished.add(step.name)
                taken.append(until)
    return unblocked, taken


def _undo(  # noqa: PLR0911  # one line a case, read top to bottom
    saga: Saga, step: Step, undo: Undo, payment: Payment, records: Records, *, now: datetime
) -> Ask | Wait | None:
    """Return what to do about one undo; None if a person must look."""
    record = records.get((step.name, Direction.UNDO))
    request = undo.request(payment, records)
    if record is None or record.status is StepStatus.REGISTERED:
        acted = records.get((step.name, Direction.ACT))
        if acted and acted.is_under_way:
            comes_back = acted.asked_at + timedelta(seconds=saga.call_seconds_max)
            if now < comes_back:
                return Wait(comes_back)  # it would overtake the call that it is to undo
        round_ = record.round if record else 1
        return _ask_undo(
            undo, request, replace(intent(step.name, Direction.UNDO, now), round=round_)
        )
    is_another = record.request not in {None, request.subject}
    if not is_another and (record.status is StepStatus.REFUSED or undo.is_refused(payment, record)):
        return None
    if is_told_of(record, payment):
        return _undo_anew(undo, request, record, now)
    asks_again = _asks_again_at(undo, record, now)
    # What was taken is waited for, also when something else is called for by now: two requests
    # about the same money, each unaware of the other, would only refuse each other.
    if now < asks_again and (record.status is StepStatus.WAITING or not is_another):
        return Wait(asks_again)
    if is_another:
        return _undo_anew(undo, request, record, now)
    if _is_exhausted(undo, record, now):
        return None
    return _ask_undo(undo, request, again(record, now))


def _is_exhausted(undo: Undo, record: StepRecord, now: datetime) -> bool:
    if record.status is StepStatus.PUT_OFF:
        return now >= record.started_at + PUT_OFF_MAX
    return undo.retry.delay_after(record.attempts) is None


def _asks_again_at(undo: Undo, record: StepRecord, now: datetime) -> datetime:
    """A webhook needs longer than a blip, and a wake by some other fact is no reason to ask."""
    if record.status not in {StepStatus.WAITING, StepStatus.SENT}:
        return record.due or now
    delay = undo.retry.delay_after(record.attempts) or 0.0
    return record.asked_at + timedelta(seconds=max(delay, undo.webhook_seconds))


def _undo_anew(undo: Undo, request: Request, record: StepRecord, now: datetime) -> Ask | None:
    """Decide to undo once more: a void overtook the authorisation, a refund failed later.

    Asking again under the old key would only bring back the old answer.
    """
    if record.round >= ROUNDS_MAX:
        return None
    decided = replace(intent(record.step, Direction.UNDO, now), round=record.round + 1)
    return _ask_undo(undo, request, decided)


def _ask_undo(undo: Undo, request: Request, record: StepRecord) -> Ask:
    delay = timedelta(seconds=undo.retry.delay_after(record.attempts) or 0.0)
    return Ask(
        request=request,
        record=replace(record, request=request.subject),
        answered_by=record.asked_at + max(delay, ELSEWHERE),
    )
