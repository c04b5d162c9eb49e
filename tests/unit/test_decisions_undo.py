"""How a payment is undone: last step first, only what was left behind, until nothing is."""

from datetime import datetime

import pytest

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.asking import Ask, Wait
from app.sagas.compensation import ELSEWHERE, PUT_OFF_MAX
from app.sagas.decisions import Decision, decide
from tests.support.builders import NOW, a_fact, a_payment, a_step_record, later
from tests.support.sagas import SAGA, UNDO_RETRY

S, E, K = FlowState, FlowEvent, FactKind
ACT, UNDO = Direction.ACT, Direction.UNDO

AUTHORISED = a_fact()
CAPTURED = a_fact(K.CAPTURED, reference="CAP1", occurred_at=later(1))
REFUNDED = a_fact(K.REFUNDED, reference="REF1", occurred_at=later(2))
CANCELLED = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(2))
CANCEL_REFUSED = a_fact(K.CANCEL_REFUSED, reference="CAN1", occurred_at=later(2))
REFUND_REFUSED = a_fact(K.REFUND_REFUSED, reference="REF1", occurred_at=later(2))

PREAUTH = a_step_record(S.PREAUTH, status=StepStatus.WAITING)
BOOKED = a_step_record(S.BOOKING_CONFIRMATION, status=StepStatus.DONE)
CAPTURE = a_step_record(S.CAPTURE, status=StepStatus.WAITING)


def undoing(
    step: str,
    status: StepStatus = StepStatus.WAITING,
    *,
    attempts: int = 1,
    request: str | None = None,
    reference: str | None = None,
    due: datetime | None = None,
) -> StepRecord:
    response = {"psp_reference": reference} if reference else {}
    return a_step_record(
        step, UNDO, status, attempts=attempts, request=request, response=response, due=due
    )


def decided(
    *records: StepRecord, facts: tuple[Fact, ...] = (AUTHORISED,), now: datetime = NOW
) -> Decision:
    return decide(
        SAGA,
        a_payment(state=S.COMPENSATING, facts=facts),
        {(record.step, record.direction): record for record in records},
        now=now,
    )


def the_ask(decision: Decision) -> Ask:
    assert not isinstance(decision, (FlowEvent, Wait)), decision
    [ask] = decision
    return ask


def asked(decision: Decision) -> tuple[str, Direction]:
    record = the_ask(decision).record
    return (record.step, record.direction)


def test_capture_is_undone_first() -> None:
    """F27."""
    decision = decided(PREAUTH, BOOKED, CAPTURE, facts=(AUTHORISED, CAPTURED))

    assert asked(decision) == (S.CAPTURE, UNDO)


def test_booking_is_undone_when_the_money_is_back() -> None:
    """F27."""
    decision = decided(PREAUTH, BOOKED, CAPTURE, facts=(AUTHORISED, CAPTURED, REFUNDED))

    assert asked(decision) == (S.BOOKING_CONFIRMATION, UNDO)


def test_hold_is_released_last() -> None:
    """F27."""
    cancelled = undoing(S.BOOKING_CONFIRMATION, StepStatus.DONE)

    assert asked(decided(PREAUTH, BOOKED, cancelled)) == (S.PREAUTH, UNDO)


def test_nothing_left_completes_the_undo() -> None:
    cancelled = undoing(S.BOOKING_CONFIRMATION, StepStatus.DONE)

    assert decided(PREAUTH, BOOKED, cancelled, facts=(AUTHORISED, CANCELLED)) is E.UNDO_COMPLETED


def test_payment_that_never_went_out_has_nothing_to_undo() -> None:
    assert decided(facts=()) is E.UNDO_COMPLETED


@pytest.mark.parametrize("status", [StepStatus.PUT_OFF, StepStatus.REJECTED])
def test_booking_that_certainly_never_was_is_not_undone(status: StepStatus) -> None:
    never = a_step_record(S.BOOKING_CONFIRMATION, status=status)

    assert asked(decided(PREAUTH, never)) == (S.PREAUTH, UNDO)


@pytest.mark.parametrize(
    "status",
    [
        StepStatus.ASKED,
        StepStatus.PUT_OFF,
        StepStatus.SENT,
        StepStatus.REFUSED,
        StepStatus.UNRESOLVED,
    ],
)
def test_booking_that_may_stand_is_undone(status: StepStatus) -> None:
    """F30: also after a "no", which may answer the repetition of a call whose answer was lost."""
    hanging = a_step_record(S.BOOKING_CONFIRMATION, status=status, attempts=4, due=NOW)

    assert asked(decided(PREAUTH, hanging)) == (S.BOOKING_CONFIRMATION, UNDO)


def test_undo_waits_for_the_call_that_it_would_overtake() -> None:
    under_way = a_step_record(S.BOOKING_CONFIRMATION, attempts=4)
    released = (AUTHORISED, CANCELLED)
    comes_back = later(SAGA.call_seconds_max)

    assert decided(PREAUTH, under_way, facts=released) == Wait(comes_back)
    assert asked(decided(PREAUTH, under_way, facts=released, now=comes_back)) == (
        S.BOOKING_CONFIRMATION,
        UNDO,
    )


@pytest.mark.parametrize("registered", [(), (undoing(S.PREAUTH, StepStatus.REGISTERED),)])
def test_first_ask_of_an_undo_is_a_decision_of_its_own(registered: tuple[StepRecord, ...]) -> None:
    ask = the_ask(decided(PREAUTH, *registered, now=later(9)))

    assert ask.request.subject == "cancel:8816178914079738"
    assert ask.record == a_step_record(
        S.PREAUTH, UNDO, request="cancel:8816178914079738", started_at=later(9)
    )
    assert ask.answered_by == later(9) + ELSEWHERE
    assert not ask.has_undo


def test_undo_that_is_registered_for_a_later_round_is_asked_under_that_rounds_key() -> None:
    """F15: a payment may have to be undone once more; the old key would bring the old answer."""
    reopened = a_step_record(S.PREAUTH, UNDO, StepStatus.REGISTERED, round_=3, attempts=0)

    record = the_ask(decided(PREAUTH, reopened, now=later(5000))).record

    assert (record.round, record.attempts, record.started_at) == (3, 1, later(5000))


def test_authorisation_that_nobody_answered_for_is_released_all_the_same() -> None:
    """F30."""
    assert asked(decided(PREAUTH, facts=())) == (S.PREAUTH, UNDO)


def test_silence_does_not_prove_that_the_money_is_back() -> None:
    """F30."""
    assert isinstance(decided(PREAUTH, undoing(S.PREAUTH), facts=()), Wait)


def test_partial_refund_is_not_the_money_back() -> None:
    part = a_fact(K.REFUNDED, reference="REF1", amount_minor=5000, occurred_at=later(2))

    assert asked(decided(PREAUTH, CAPTURE, facts=(AUTHORISED, CAPTURED, part))) == (S.CAPTURE, UNDO)


def test_capture_of_which_nothing_is_known_is_reversed() -> None:
    """F30."""
    request = the_ask(decided(PREAUTH, CAPTURE)).request

    assert (request.operation, request.service_id) == ("reverse", "psp")


@pytest.mark.parametrize(
    ("facts", "refused"),
    [
        (
            (AUTHORISED, CANCEL_REFUSED),
            undoing(S.PREAUTH, request="cancel:8816178914079738", reference="CAN1"),
        ),
        (
            (AUTHORISED, CAPTURED, REFUND_REFUSED),
            undoing(S.CAPTURE, request="refund:8816178914079738:12500", reference="REF1"),
        ),
    ],
    ids=["cancel", "refund"],
)
def test_refusal_for_good_asks_for_a_person(facts: tuple[Fact, ...], refused: StepRecord) -> None:
    """F29."""
    assert decided(PREAUTH, refused, facts=facts) is E.UNDO_FAILED


def test_void_refused_because_we_were_paid_leads_to_a_refund() -> None:
    releasing = undoing(S.PREAUTH, request="cancel:8816178914079738", reference="CAN1")

    ask = the_ask(decided(PREAUTH, releasing, facts=(AUTHORISED, CAPTURED, CANCEL_REFUSED)))

    assert (ask.record.step, ask.request.operation) == (S.CAPTURE, "refund")


def test_booking_service_that_refuses_to_cancel_asks_for_a_person_when_the_money_is_back() -> None:
    """F29."""
    refused = undoing(S.BOOKING_CONFIRMATION, StepStatus.REFUSED)

    assert asked(decided(PREAUTH, BOOKED, refused)) == (S.PREAUTH, UNDO)
    assert decided(PREAUTH, BOOKED, refused, facts=(AUTHORISED, CANCELLED)) is E.UNDO_FAILED


def test_undo_that_failed_is_put_off_and_then_asked_for_again() -> None:
    """F28."""
    failed = undoing(S.PREAUTH, StepStatus.ASKED, due=later(2))

    ask = the_ask(decided(PREAUTH, failed, now=later(2)))

    assert decided(PREAUTH, failed, now=later(1)) == Wait(later(2))
    assert (ask.record.attempts, ask.record.round) == (2, 1)


@pytest.mark.parametrize("status", [StepStatus.ASKED, StepStatus.SENT, StepStatus.WAITING])
def test_undo_fails_after_its_last_call(status: StepStatus) -> None:
    """F29."""
    calls = len(UNDO_RETRY.delays_seconds) + 1
    last = undoing(S.PREAUTH, status, attempts=calls)

    assert decided(PREAUTH, last, now=later(61)) is E.UNDO_FAILED


def test_undo_that_never_left_is_tried_for_days_and_then_a_person_is_asked() -> None:
    """F29."""
    put_off = undoing(S.PREAUTH, StepStatus.PUT_OFF, attempts=99, due=later(5))
    ends = PUT_OFF_MAX.total_seconds()

    assert the_ask(decided(PREAUTH, put_off, now=later(ends - 1))).record.attempts == 99
    assert decided(PREAUTH, put_off, now=later(ends)) is E.UNDO_FAILED


@pytest.mark.parametrize("seconds", [0, 1, 59.9])
@pytest.mark.parametrize("status", [StepStatus.WAITING, StepStatus.SENT])
def test_wake_while_waiting_for_an_answer_does_not_ask_again(
    status: StepStatus, seconds: float
) -> None:
    """F37: whatever wakes the saga."""
    releasing = undoing(S.PREAUTH, status)

    assert decided(PREAUTH, releasing, now=later(seconds)) == Wait(later(60))


def test_webhook_that_stays_away_is_asked_for_again() -> None:
    releasing = undoing(S.PREAUTH)

    record = the_ask(decided(PREAUTH, releasing, now=later(60))).record

    assert (record.attempts, record.round) == (2, releasing.round)


def test_later_calls_wait_longer_than_a_webhook_takes() -> None:
    releasing = undoing(S.PREAUTH, attempts=5)

    assert decided(PREAUTH, releasing, now=later(60)) == Wait(later(3600))
