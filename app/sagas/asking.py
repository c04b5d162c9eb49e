"""Asking: the intent of a call, how to wait, and what a call made of its step. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.saga import Direction, Reply, Request, StepRecord, StepStatus
from app.errors import GatewayError, GatewayNotAsked, GatewayRejected
from app.sagas.definition import DecidedBy, RetryPolicy, Saga, Step

#: How soon after a call that never left it is made, at the most: breakers pause about as long.
#: Later on, it waits a quarter of the time that it has waited.
PUT_OFF_SECONDS = 5.0
PUT_OFF_SECONDS_MAX = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Make a call: the first one, or the same one again.

    Attributes:
        request: What to ask, and of whom.
        record: The intent, to be on disk before the call.
        answered_by: When to look again if a participant elsewhere has not answered by then.
        has_undo: True if the step's undo is to be registered together with the intent.
        is_after_put_off: True if the try before it never left.
    """

    request: Request
    record: StepRecord
    answered_by: datetime
    has_undo: bool = False
    is_after_put_off: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until a webhook or a response comes, at most until ``due``."""

    due: datetime


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
    delay = _put_off_delay(asked, now) if status is StepStatus.PUT_OFF else _delay(step, asked)
    if delay is None:
        return replace(record, due=now)
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


def _put_off_delay(record: StepRecord, now: datetime) -> float:
    waited = (now - record.started_at).total_seconds()
    return min(max(PUT_OFF_SECONDS, waited / 4), PUT_OFF_SECONDS_MAX)


def _delay(step: Step, record: StepRecord) -> float | None:
    retry: RetryPolicy = step.retry
    if record.direction is Direction.UNDO and step.undo:
        retry = step.undo.retry
    return retry.delay_after(record.attempts)


def intent(step: str, direction: Direction, now: datetime) -> StepRecord:
    """Return the record of a first call that is about to be made."""
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


def again(record: StepRecord, now: datetime) -> StepRecord:
    """Return the record of one more call; one that follows a call that never left is the same."""
    has_left = record.status is not StepStatus.PUT_OFF
    return replace(
        record,
        status=StepStatus.ASKED,
        attempts=record.attempts + has_left,
        started_at=record.started_at if record.attempts else now,
        asked_at=now,
        due=None,
    )
