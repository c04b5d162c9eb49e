"""What a working state does next: ask, ask again, wait, or move by evidence or by patience."""

from datetime import datetime

import pytest

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.asking import Ask, Wait
from app.sagas.booking import HOUR
from app.sagas.decisions import Decision, decide
from tests.support.builders import NOW, a_fact, a_payment, a_step_record, later
from tests.support.sagas import SAGA, STAGE_OF, STEPS, WINDOW, held_where_it_must_be

S, E, K = FlowState, FlowEvent, FactKind

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
    "fraud_check": E.FRAUD_CHECK_FAILED,
    "fraud_rules": E.FRAUD_CHECK_FAILED,
    "preauth": E.AUTHORISATION_UNRESOLVED,
    "booking_confirmation": E.BOOKING_UNRESOLVED,
    "capture": E.CAPTURE_UNRESOLVED,
    "email": E.MAIL_FAILED,
}
#: Steps whose calls end before their deadline does.
CALLS = {"fraud_check": 5, "fraud_rules": 5, "booking_confirmation": 4, "email": 6}


def decided(
    step: str, record: StepRecord | None = None, *facts: Fact, now: datetime = NOW
) -> Decision:
    """Decide for a payment that is authorised where it must be, with ``facts`` on top.

    The steps beside this one are done.
    """
    stage = STAGE_OF[step]
    records = {
        (other.name, Direction.ACT): a_step_record(other.name, status=StepStatus.DONE)
        for other in stage.steps
        if other.name != step
    }
    if record is not None:
        records[step, Direction.ACT] = record
    held = held_where_it_must_be(stage.state, a_fact())
    payment = a_payment(state=stage.state, facts=(*held, *facts))
    return decide(SAGA, payment, records, now=now)


def asked(decision: Decision) -> Ask:
    assert not isinstance(decision, (FlowEvent, Wait))
    [ask] = decision
    return ask


@pytest.mark.parametrize("name", STEPS)
def test_state_that_was_just_entered_asks(name: str) -> None:
    step, held = STEPS[name], held_where_it_must_be(STAGE_OF[name].state, a_fact())
    request = step.request(a_payment(facts=held))

    assert decided(name) == [
        Ask(
            request=request,
            record=a_step_record(name, request=request.subject),
            answered_by=later(step.deadline_seconds),
            has_undo=step.undo is not None,
        )
    ]


@pytest.mark.parametrize(("state", "kind", "event"), EVIDENCE)
def test_evidence_settles_a_step_without_asking(
    state: FlowState, kind: FactKind, event: FlowEvent
) -> None:
    assert decided(state, None, a_fact(kind, occurred_at=later(60))) is event


@pytest.mark.parametrize(("state", "kind", "event"), EVIDENCE)
def test_evidence_beats_a_deadline_that_passed(
    state: FlowState, kind: FactKind, event: FlowEvent
) -> None:
    waiting = a_step_record(state, status=StepStatus.WAITING)

    assert (
        decided(state, waiting, a_fact(kind, occurred_at=later(60)), now=later(1000 * HOUR))
        is event
    )


def test_success_beats_the_refusal_of_another_attempt() -> None:
    refused = a_fact(K.REFUSED, reference="PAY1", occurred_at=later(5))

    assert decided(S.PREAUTH, None, refused, a_fact()) is E.AUTHORISATION_SUCCEEDED


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", [StepStatus.ASKED, StepStatus.PUT_OFF])
def test_step_is_not_asked_again_before_its_time_whatever_wakes_the_saga(
    step: str, status: StepStatus
) -> None:
    """F37: a fact that wakes a saga is looked at, and is no reason to call early."""
    failed = a_step_record(step, status=status, due=later(30))

    assert decided(step, failed, now=later(29)) == Wait(later(30))
    assert asked(decided(step, failed, now=later(30))).record.asked_at == later(30)


@pytest.mark.parametrize("step", STEPS)
def test_step_that_is_due_is_asked_again_as_the_same_decision(step: str) -> None:
    failed = a_step_record(step, attempts=2, due=later(3))

    ask = asked(decided(step, failed, now=later(3)))

    assert (ask.record.attempts, ask.record.round, ask.record.due) == (3, 1, None)
    assert (ask.record.started_at, ask.record.asked_at) == (NOW, later(3))


@pytest.mark.parametrize("step", STEPS)
def test_intent_of_a_worker_that_died_is_carried_out_at_once(step: str) -> None:
    """F21, F22: nobody wrote down what came of the call, or whether it was made."""
    assert asked(decided(step, a_step_record(step), now=later(9))).record.attempts == 2


@pytest.mark.parametrize("step", STEPS)
def test_call_that_never_left_counts_once(step: str) -> None:
    put_off = a_step_record(step, status=StepStatus.PUT_OFF, attempts=4, due=later(5))

    assert asked(decided(step, put_off, now=later(5))).record.attempts == 4


@pytest.mark.parametrize(
    ("step", "status", "event"),
    [
        ("fraud_check", StepStatus.DONE, E.FRAUD_CHECK_PASSED),
        ("fraud_check", StepStatus.REFUSED, E.FRAUD_CHECK_REFUSED),
        ("fraud_check", StepStatus.REJECTED, E.FRAUD_CHECK_FAILED),
        ("fraud_check", StepStatus.UNRESOLVED, E.FRAUD_CHECK_FAILED),
        ("preauth", StepStatus.REFUSED, E.AUTHORISATION_REFUSED),
        ("preauth", StepStatus.REJECTED, E.AUTHORISATION_REJECTED),
        ("preauth", StepStatus.UNRESOLVED, E.AUTHORISATION_UNRESOLVED),
        ("booking_confirmation", StepStatus.DONE, E.BOOKING_CONFIRMED),
        ("booking_confirmation", StepStatus.REFUSED, E.BOOKING_REFUSED),
        ("booking_confirmation", StepStatus.REJECTED, E.BOOKING_REFUSED),
        ("booking_confirmation", StepStatus.UNRESOLVED, E.BOOKING_UNRESOLVED),
        ("capture", StepStatus.REJECTED, E.CAPTURE_REFUSED),
        ("capture", StepStatus.UNRESOLVED, E.CAPTURE_UNRESOLVED),
        ("email", StepStatus.DONE, E.MAIL_SENT),
        ("email", StepStatus.REFUSED, E.MAIL_FAILED),
    ],
)
def test_answer_decides_where_the_flow_goes(
    step: str, status: StepStatus, event: FlowEvent
) -> None:
    assert decided(step, a_step_record(step, status=status)) is event


@pytest.mark.parametrize(("step", "calls"), CALLS.items())
def test_step_gives_up_after_its_last_call_and_not_before(step: str, calls: int) -> None:
    last, last_but_one = (a_step_record(step, attempts=n) for n in (calls, calls - 1))

    assert decided(step, last, now=later(30)) is GIVES_UP[step]
    assert asked(decided(step, last_but_one, now=later(30))).record.attempts == calls


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", [StepStatus.ASKED, StepStatus.SENT, StepStatus.WAITING])
def test_step_gives_up_at_its_deadline(step: str, status: StepStatus) -> None:
    """F14."""
    deadline = later(STEPS[step].deadline_seconds)

    assert decided(step, a_step_record(step, status=status), now=deadline) is GIVES_UP[step]


@pytest.mark.parametrize("step", STEPS)
def test_command_that_lies_in_a_queue_is_waited_for_until_the_deadline(step: str) -> None:
    sent = a_step_record(step, status=StepStatus.SENT)
    deadline = STEPS[step].deadline_seconds

    assert decided(step, sent, now=later(deadline - 1)) == Wait(later(deadline))


@pytest.mark.parametrize("step", [S.PREAUTH, S.CAPTURE])
def test_money_step_is_asked_until_its_deadline_however_often(step: str) -> None:
    often = a_step_record(step, attempts=1000)
    last_moment = later(STEPS[step].deadline_seconds - 1)

    assert asked(decided(step, often, now=last_moment)).record.attempts == 1001


@pytest.mark.parametrize("step", STEPS)
def test_wait_never_goes_past_the_deadline(step: str) -> None:
    deadline = STEPS[step].deadline_seconds
    failed = a_step_record(step, due=later(deadline + 7))

    assert decided(step, failed, now=later(deadline - 0.1)) == Wait(later(deadline))


def test_authorisation_waits_for_its_webhook_and_is_not_asked_for_again() -> None:
    waiting = a_step_record(S.PREAUTH, status=StepStatus.WAITING)

    assert decided(S.PREAUTH, waiting, now=later(60)) == Wait(later(WINDOW))


def test_silence_after_an_answer_of_refused_is_a_refusal() -> None:
    refused = a_step_record(S.PREAUTH, status=StepStatus.WAITING, response={"result": "Refused"})

    assert decided(S.PREAUTH, refused, now=later(WINDOW)) is E.AUTHORISATION_REFUSED
    assert decided(S.PREAUTH, refused, now=later(WINDOW - 1)) == Wait(later(WINDOW))


@pytest.mark.parametrize("result", ["Authorised", "Received", "Pending", None])
def test_silence_after_any_other_answer_stays_unknown(result: str | None) -> None:
    waiting = a_step_record(S.PREAUTH, status=StepStatus.WAITING, response={"result": result})

    assert decided(S.PREAUTH, waiting, now=later(WINDOW)) is E.AUTHORISATION_UNRESOLVED


def test_capture_waits_an_hour_for_its_webhook_and_is_then_asked_for_again() -> None:
    waiting = a_step_record(S.CAPTURE, status=StepStatus.WAITING)

    ask = asked(decided(S.CAPTURE, waiting, now=later(HOUR)))

    assert decided(S.CAPTURE, waiting, now=later(60)) == Wait(later(HOUR))
    assert (ask.record.attempts, ask.record.round) == (2, 1)


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
