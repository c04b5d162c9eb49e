"""What a saga is made of: steps with names of their own, and schedules of retries."""

from itertools import pairwise

import pytest

from app.domain.flow import MOVES, REST_STATES, FlowState
from app.sagas.booking import UNDO_RETRY, booking_saga
from app.sagas.definition import RetryPolicy, Saga, Step
from tests.support.builders import a_step_record

SAGA = booking_saga(decision_window_seconds=900)


def test_delay_follows_the_schedule_and_ends_with_it() -> None:
    policy = RetryPolicy((1, 5, 60))

    assert [policy.delay_after(attempts) for attempts in range(1, 6)] == [1, 5, 60, None, None]


def test_schedule_that_goes_on_repeats_its_last_delay() -> None:
    policy = RetryPolicy((1, 5), goes_on=True)

    assert [policy.delay_after(attempts) for attempts in range(1, 5)] == [1, 5, 5, 5]


def test_two_steps_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats a step name"):
        Saga(name="twice", version=1, steps=(SAGA.steps[0], SAGA.steps[0]))


def test_every_working_state_but_compensating_has_its_step_in_the_order_of_the_flow() -> None:
    assert [step.name for step in SAGA.steps] == [
        FlowState.FRAUD_CHECK,
        FlowState.PREAUTH,
        FlowState.BOOKING_CONFIRMATION,
        FlowState.CAPTURE,
        FlowState.EMAIL,
    ]
    assert {step.name for step in SAGA.steps} == {
        state for state in FlowState if state not in REST_STATES | {FlowState.COMPENSATING}
    }


@pytest.mark.parametrize("step", SAGA.steps, ids=lambda step: step.name)
def test_step_is_found_by_its_name(step: Step) -> None:
    assert SAGA.step(step.name) is step


@pytest.mark.parametrize("step", SAGA.steps, ids=lambda step: step.name)
def test_giving_up_and_a_rejected_request_move_the_flow(step: Step) -> None:
    assert (step.name, step.on_rejected) in MOVES
    assert (step.name, step.on_deadline(a_step_record(step.name))) in MOVES


@pytest.mark.parametrize(
    ("name", "is_undone"),
    [
        (FlowState.FRAUD_CHECK, False),
        (FlowState.PREAUTH, True),
        (FlowState.BOOKING_CONFIRMATION, True),
        (FlowState.CAPTURE, True),
        (FlowState.EMAIL, False),
    ],
)
def test_each_step_names_what_undoes_it(name: FlowState, *, is_undone: bool) -> None:
    assert (SAGA.step(name).undo is not None) is is_undone


def test_authorisation_may_take_as_long_as_the_shopper_wants_it() -> None:
    saga = booking_saga(decision_window_seconds=7)

    assert saga.step(FlowState.PREAUTH).deadline_seconds == 7


def test_undo_is_tried_at_growing_distances_for_days() -> None:
    delays = UNDO_RETRY.delays_seconds

    assert all(earlier <= later for earlier, later in pairwise(delays))
    assert sum(delays) > 4 * 24 * 3600
