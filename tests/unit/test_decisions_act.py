"""What a working state does next: ask, ask again, wait, or move by evidence or by patience."""

from datetime import datetime

import pytest

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.booking import HOUR, booking_saga
from app.sagas.decisions import Ask, Decision, Wait, decide
from tests.support.builders import NOW, a_fact, a_payment, a_step_record, later

WINDOW = 900
SAGA = booking_saga(decision_window_seconds=WINDOW)

S, E, K = FlowState, FlowEvent, FactKind
WORKING = [step.name for step in SAGA.steps]

#: What proves a step by a webhook: the state, the fact, where the flow goes.
EVIDENCE = [
    (S.PREAUTH, K.AUTHORISED, E.AUTHORISATION_SUCCEEDED),
    (S.PREAUTH, K.REFUSED, E.AUTHORISATION_REFUSED),
    (S.BOOKING_CONFIRMATION, K.CANCELLED, E.HOLD_RELEASED),
    (S.BOOKING_CONFIRMATION, K.EXPIRED, E.HOLD_RELEASED),
    (S.CAPTURE, K.EXPIRED, E.HOLD_RELEASED),
    (S.CAPTURE, K.CAPTURED, E.CAPTURE_SUCCEEDED),
    (S.CAPTURE, K.CAPTURE_REFUSED, E.CAPTURE_REFUSED),
    (S.CAPTURE, K.CAPTURE_FAILED, E.CAPTURE_REFUSED),
]

GIVES_UP = {
    S.FRAUD_CHECK: E.FRAUD_CHECK_FAILED,
    S.PREAUTH: E.AUTHORISATION_UNRESOLVED,
    S.BOOKING_CONFIRMATION: E.BOOKING_UNRESOLVED,
    S.CAPTURE: E.CAPTURE_UNRESOLVED,
    S.EMAIL: E.MAIL_FAILED,
}
#: Steps whose calls end before their deadline does.
CALLS = {S.FRAUD_CHECK: 5, S.BOOKING_CONFIRMATION: 4, S.EMAIL: 6}


def decided(
    state: FlowState,
    record: StepRecord | None = None,
    *facts: Fact,
    now: datetime = NOW,
    has_just_called: bool = False,
) -> Decision:
    """Decide for a payment that is authorised where it must be, with ``facts`` on top."""
    records = {} if record is None else {(record.step, Direction.ACT): record}
    held = (a_fact(),) if state in {S.BOOKING_CONFIRMATION, S.CAPTURE, S.EMAIL} else ()
    return decide(
        SAGA,
        a_payment(state=state, facts=(*held, *facts)),
        records,
        now=now,
        just_called=record if has_just_called else None,
    )


@pytest.mark.parametrize("state", WORKING)
def test_state_that_was_just_entered_asks(state: FlowState) -> None:
    step = SAGA.step(state)

    assert decided(state) == Ask(
        act=step.act,
        record=a_step_record(state),
        on_rejected=step.on_rejected,
        on_deadline=step.on_deadline(a_step_record(state)),
    )


@pytest.mark.parametrize(("state", "kind", "event"), EVIDENCE)
def test_evidence_settles_a_step_without_asking(
    state: FlowState, kind: FactKind, event: FlowEvent
) -> None:
    assert decided(state, None, a_fact(kind)) is event


@pytest.mark.parametrize(("state", "kind", "event"), EVIDENCE)
@pytest.mark.parametrize("has_just_called", [True, False])
def test_evidence_beats_a_deadline_that_passed(
    state: FlowState, kind: FactKind, event: FlowEvent, *, has_just_called: bool
) -> None:
    waiting = a_step_record(state, status=StepStatus.WAITING)
    long_after = later(1000 * HOUR)

    decision = decided(
        state, waiting, a_fact(kind), now=long_after, has_just_called=has_just_called
    )

    assert decision is event


def test_success_beats_the_refusal_of_another_attempt() -> None:
    refused = a_fact(K.REFUSED, reference="PAY1", occurred_at=later(5))

    assert decided(S.PREAUTH, None, refused, a_fact()) is E.AUTHORISATION_SUCCEEDED


@pytest.mark.parametrize("state", WORKING)
def test_call_that_failed_is_put_off_by_its_first_delay(state: FlowState) -> None:
    delay = SAGA.step(state).retry.delays_seconds[0]

    decision = decided(state, a_step_record(state), now=later(1), has_just_called=True)

    assert decision == Wait(later(1 + delay), jitter_seconds=delay)


@pytest.mark.parametrize("state", WORKING)
def test_saga_that_is_due_calls_again_as_the_same_decision(state: FlowState) -> None:
    decision = decided(state, a_step_record(state, attempts=2), now=later(3))

    assert isinstance(decision, Ask)
    assert decision.record == a_step_record(state, attempts=3, asked_at=later(3))


@pytest.mark.parametrize(("state", "calls"), CALLS.items())
@pytest.mark.parametrize("has_just_called", [True, False])
def test_step_gives_up_after_its_last_call(
    state: FlowState, calls: int, *, has_just_called: bool
) -> None:
    last = a_step_record(state, attempts=calls)

    decision = decided(state, last, now=later(30), has_just_called=has_just_called)

    assert decision is GIVES_UP[state]


@pytest.mark.parametrize(("state", "calls"), CALLS.items())
def test_step_does_not_give_up_before_its_last_call(state: FlowState, calls: int) -> None:
    last_but_one = a_step_record(state, attempts=calls - 1)

    assert isinstance(decided(state, last_but_one, now=later(30)), Ask)


@pytest.mark.parametrize("state", WORKING)
@pytest.mark.parametrize("status", [StepStatus.ASKED, StepStatus.WAITING])
@pytest.mark.parametrize("has_just_called", [True, False])
def test_step_gives_up_at_its_deadline(
    state: FlowState, status: StepStatus, *, has_just_called: bool
) -> None:
    record = a_step_record(state, status=status)
    deadline = later(SAGA.step(state).deadline_seconds)

    decision = decided(state, record, now=deadline, has_just_called=has_just_called)

    assert decision is GIVES_UP[state]


@pytest.mark.parametrize("state", [S.PREAUTH, S.CAPTURE])
def test_money_step_is_asked_until_its_deadline_however_often(state: FlowState) -> None:
    often = a_step_record(state, attempts=1000)
    last_moment = later(SAGA.step(state).deadline_seconds - 1)

    assert isinstance(decided(state, often, now=last_moment), Ask)


@pytest.mark.parametrize("state", WORKING)
def test_wait_never_goes_past_the_deadline(state: FlowState) -> None:
    deadline = SAGA.step(state).deadline_seconds
    now = later(deadline - 0.1)

    decision = decided(state, a_step_record(state), now=now, has_just_called=True)

    assert isinstance(decision, Wait)
    assert decision.due == later(deadline)


@pytest.mark.parametrize("has_just_called", [True, False])
def test_authorisation_waits_for_its_webhook_and_is_not_asked_for_again(
    *, has_just_called: bool
) -> None:
    waiting = a_step_record(S.PREAUTH, status=StepStatus.WAITING)

    decision = decided(S.PREAUTH, waiting, now=later(60), has_just_called=has_just_called)

    assert decision == Wait(later(WINDOW))


def test_silence_after_an_answer_of_refused_is_a_refusal() -> None:
    refused = a_step_record(S.PREAUTH, status=StepStatus.WAITING, response={"result": "Refused"})

    assert decided(S.PREAUTH, refused, now=later(WINDOW)) is E.AUTHORISATION_REFUSED
    assert decided(S.PREAUTH, refused, now=later(WINDOW - 1)) == Wait(later(WINDOW))


@pytest.mark.parametrize("result", ["Authorised", "Received", "Pending", None])
def test_silence_after_any_other_answer_stays_unknown(result: str | None) -> None:
    waiting = a_step_record(S.PREAUTH, status=StepStatus.WAITING, response={"result": result})

    assert decided(S.PREAUTH, waiting, now=later(WINDOW)) is E.AUTHORISATION_UNRESOLVED


def test_capture_waits_an_hour_for_its_webhook() -> None:
    waiting = a_step_record(S.CAPTURE, status=StepStatus.WAITING)

    decision = decided(S.CAPTURE, waiting, now=later(60), has_just_called=True)

    assert decision == Wait(later(60 + HOUR))


def test_capture_whose_webhook_stays_away_is_asked_for_again() -> None:
    waiting = a_step_record(S.CAPTURE, status=StepStatus.WAITING)

    decision = decided(S.CAPTURE, waiting, now=later(HOUR))

    assert isinstance(decision, Ask)
    assert decision.record == a_step_record(S.CAPTURE, attempts=2, asked_at=later(HOUR))


@pytest.mark.parametrize(
    ("state", "fact", "event"),
    [
        (S.PREAUTH, a_fact(amount_minor=12499), E.AUTHORISATION_FELL_SHORT),
        (S.CAPTURE, a_fact(K.CAPTURED, reference="CAP", amount_minor=1), E.CAPTURE_FELL_SHORT),
    ],
)
def test_less_than_was_asked_for_is_no_success(
    state: FlowState, fact: Fact, event: FlowEvent
) -> None:
    assert decided(state, None, fact) is event
