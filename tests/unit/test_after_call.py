"""What a call makes of its step's record, and when the step is asked again."""

from collections.abc import Mapping

import pytest

from app.domain.saga import Direction, Reply, StepRecord, StepStatus
from app.errors import (
    GatewayError,
    GatewayInProgress,
    GatewayNotAsked,
    GatewayOverloaded,
    GatewayRejected,
    GatewayTimeout,
    GatewayUnavailable,
)
from app.sagas.asking import PUT_OFF_SECONDS, after_call
from tests.support.builders import NOW, a_step_record, later
from tests.support.sagas import SAGA, STEPS, UNDO_RETRY

ACT, UNDO = Direction.ACT, Direction.UNDO
YES, NO = Reply(success=True, data={"word": "yes"}), Reply(success=False, data={"word": "no"})
UNKNOWN = [GatewayTimeout, GatewayUnavailable, GatewayInProgress, GatewayOverloaded]
UNDONE = [name for name, step in STEPS.items() if step.undo]


def after(
    reply: Reply | GatewayError,
    step: str = "preauth",
    direction: Direction = ACT,
    *,
    attempts: int = 1,
    response: Mapping[str, object] | None = None,
    draw: float = 1.0,
) -> StepRecord:
    asked = a_step_record(step, direction, attempts=attempts, response=response)
    return after_call(SAGA, asked, reply, now=later(1), draw=lambda: draw)


@pytest.mark.parametrize(
    ("step", "direction", "status"),
    [
        ("fraud_check", ACT, StepStatus.DONE),
        ("preauth", ACT, StepStatus.WAITING),
        ("preauth", UNDO, StepStatus.WAITING),
        ("booking_confirmation", ACT, StepStatus.DONE),
        ("booking_confirmation", UNDO, StepStatus.DONE),
        ("capture", ACT, StepStatus.WAITING),
        ("capture", UNDO, StepStatus.WAITING),
        ("email", ACT, StepStatus.DONE),
    ],
)
def test_yes_is_the_outcome_unless_a_webhook_tells_it(
    step: str, direction: Direction, status: StepStatus
) -> None:
    record = after(YES, step, direction)

    assert (record.status, record.response, record.due) == (status, {"word": "yes"}, None)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("direction", Direction)
def test_no_is_a_refusal(step: str, direction: Direction) -> None:
    record = after(NO, step, direction)

    assert (record.status, record.response, record.due) == (
        StepStatus.REFUSED,
        {"word": "no"},
        None,
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", UNKNOWN)
def test_call_that_failed_is_made_again_after_a_part_of_its_first_delay(
    step: str, error: type[GatewayError]
) -> None:
    """F8: what came of it is not known, so that nothing is decided."""
    delay = STEPS[step].retry.delays_seconds[0]
    soonest, latest = after(error("?"), step, draw=0.0), after(error("?"), step, draw=1.0)

    assert {soonest.status, latest.status} == {StepStatus.ASKED}
    assert (soonest.due, latest.due) == (later(1), later(1 + delay))


def test_what_an_earlier_call_answered_is_kept_when_a_later_one_fails() -> None:
    record = after(GatewayTimeout("?"), attempts=2, response={"result": "Refused"})

    assert record.response == {"result": "Refused"}


@pytest.mark.parametrize("name", STEPS)
def test_call_after_which_none_comes_is_looked_at_at_once(name: str) -> None:
    policy = STEPS[name].retry
    last = len(policy.delays_seconds) + 1

    record = after(GatewayTimeout("?"), name, attempts=last)

    assert record.due is not None
    assert (record.due == later(1)) is not policy.goes_on


@pytest.mark.parametrize("step", UNDONE)
def test_half_of_an_undos_wait_is_certain(step: str) -> None:
    delay = UNDO_RETRY.delays_seconds[2]
    soonest, latest = (
        after(GatewayTimeout("?"), step, UNDO, attempts=3, draw=draw) for draw in (0.0, 1.0)
    )

    assert (soonest.due, latest.due) == (later(1 + delay / 2), later(1 + delay))


@pytest.mark.parametrize("direction", Direction)
def test_call_that_never_left_is_put_off_however_many_went_before(direction: Direction) -> None:
    record = after(GatewayNotAsked("left alone"), direction=direction, attempts=99)

    assert (record.status, record.attempts) == (StepStatus.PUT_OFF, 99)
    assert record.due == later(1 + PUT_OFF_SECONDS)


@pytest.mark.parametrize("step", STEPS)
def test_first_call_that_is_rejected_did_nothing_and_a_repetition_may_follow_one_that_did(
    step: str,
) -> None:
    """F8."""
    first, repetition = (
        after(GatewayRejected("401"), step, attempts=attempts) for attempts in (1, 2)
    )

    assert (first.status, first.due) == (StepStatus.REJECTED, None)
    assert (repetition.status, repetition.due) == (StepStatus.UNRESOLVED, None)


@pytest.mark.parametrize("attempts", [1, 2])
def test_undo_that_is_rejected_is_tried_again_since_the_money_is_still_there(attempts: int) -> None:
    """F28."""
    record = after(GatewayRejected("401"), direction=UNDO, attempts=attempts)

    assert record.status is StepStatus.ASKED
    assert record.due is not None
    assert record.due > NOW
