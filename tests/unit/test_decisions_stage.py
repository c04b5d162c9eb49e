"""Steps side by side: all must work, the first that can't decides, and none waits for another."""

import pytest

from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import CaptureMode
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.asking import Ask, Wait
from app.sagas.decisions import Decision, decide
from app.sagas.definition import Saga
from tests.support.builders import a_fact, a_payment, a_step_record, later
from tests.support.sagas import SAGA, held_where_it_must_be, with_insurance

S, E = FlowState, FlowEvent
INSURED = with_insurance().newest

#: A saga, a state of it, and the two steps that stand side by side there.
PAIRS = [
    (SAGA, S.FRAUD_CHECK, ("fraud_check", "fraud_rules"), E.FRAUD_CHECK_PASSED),
    (
        INSURED,
        S.BOOKING_CONFIRMATION,
        ("booking_confirmation", "insurance"),
        E.BOOKING_CONFIRMED,
    ),
]
pairs = pytest.mark.parametrize(
    ("saga", "state", "steps", "worked"), PAIRS, ids=["fraud", "insured"]
)
both_ways = pytest.mark.parametrize("is_turned", [False, True], ids=["", "turned"])


def decided(saga: Saga, state: FlowState, *records: StepRecord, now: float = 0) -> Decision:
    payment = a_payment(
        state=state, facts=held_where_it_must_be(state, a_fact()), capture=CaptureMode.MANUAL
    )
    known = {(record.step, record.direction): record for record in records}
    return decide(saga, payment, known, now=later(now))


def asked(decision: Decision) -> list[str]:
    assert not isinstance(decision, (FlowEvent, Wait)), decision
    return [ask.record.step for ask in decision]


def pair(
    steps: tuple[str, str], first: StepStatus, second: StepStatus, *, is_turned: bool = False
) -> list[StepRecord]:
    in_order = reversed(steps) if is_turned else steps
    return [
        a_step_record(step, status=status)
        for step, status in zip(in_order, (first, second), strict=True)
    ]


@pairs
def test_both_are_asked_in_one_turn(
    saga: Saga, state: FlowState, steps: tuple[str, str], worked: FlowEvent
) -> None:
    assert worked in FlowEvent
    assert asked(decided(saga, state)) == list(steps)


@pairs
def test_flow_goes_on_when_both_have_worked(
    saga: Saga, state: FlowState, steps: tuple[str, str], worked: FlowEvent
) -> None:
    done = pair(steps, StepStatus.DONE, StepStatus.DONE)

    assert decided(saga, state, *done) is worked


@pairs
@both_ways
def test_no_of_one_decides_whatever_the_other_has_come_to(
    saga: Saga, state: FlowState, steps: tuple[str, str], worked: FlowEvent, *, is_turned: bool
) -> None:
    others = (StepStatus.DONE, StepStatus.ASKED, StepStatus.SENT, StepStatus.PUT_OFF)
    decisions = {
        decided(saga, state, *pair(steps, StepStatus.REFUSED, other, is_turned=is_turned))
        for other in others
    }

    assert len(decisions) == 1
    assert decisions < {E.FRAUD_CHECK_REFUSED, E.BOOKING_REFUSED}
    assert decisions.isdisjoint({worked})


@pairs
@both_ways
def test_one_that_failed_is_asked_again_alone(
    saga: Saga, state: FlowState, steps: tuple[str, str], worked: FlowEvent, *, is_turned: bool
) -> None:
    done, failed = pair(steps, StepStatus.DONE, StepStatus.ASKED, is_turned=is_turned)

    decision = decided(saga, state, done, failed)

    assert worked in FlowEvent
    assert asked(decision) == [failed.step]


@pairs
def test_one_that_is_due_is_asked_again_while_the_other_waits_for_its_time(
    saga: Saga, state: FlowState, steps: tuple[str, str], worked: FlowEvent
) -> None:
    first, second = (
        a_step_record(step, due=later(due)) for step, due in zip(steps, (5, 9), strict=True)
    )

    assert worked in FlowEvent
    assert decided(saga, state, first, second, now=4) == Wait(later(5))
    assert asked(decided(saga, state, first, second, now=5)) == [steps[0]]
    assert asked(decided(saga, state, first, second, now=9)) == list(steps)


@pairs
def test_one_that_is_done_waits_for_the_other(
    saga: Saga, state: FlowState, steps: tuple[str, str], worked: FlowEvent
) -> None:
    done = a_step_record(steps[0], status=StepStatus.DONE)
    sent = a_step_record(steps[1], status=StepStatus.SENT)

    assert worked in FlowEvent
    assert isinstance(decided(saga, state, done, sent), Wait)


def test_hold_that_is_released_stops_a_stage_whose_steps_have_all_worked() -> None:
    done = pair(("booking_confirmation", "insurance"), StepStatus.DONE, StepStatus.DONE)
    payment = a_payment(state=S.BOOKING_CONFIRMATION)

    decision = decide(
        INSURED, payment, {(one.step, one.direction): one for one in done}, now=later(0)
    )

    assert decision is E.HOLD_RELEASED


def test_what_worked_beside_a_no_is_undone() -> None:
    refused = a_step_record("booking_confirmation", status=StepStatus.REFUSED)
    insured = a_step_record("insurance", status=StepStatus.DONE)

    decision = decided(INSURED, S.COMPENSATING, refused, insured)

    assert isinstance(decision, list)
    [ask] = decision
    assert isinstance(ask, Ask)
    assert (ask.request.operation, ask.record.direction) == ("end", Direction.UNDO)
