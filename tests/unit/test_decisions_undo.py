"""How a payment is undone: last step first, only what was left behind, until nothing is."""

from datetime import datetime

import pytest

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.booking import UNDO_RETRY, booking_saga, cancel_booking, give_money_back
from app.sagas.decisions import Ask, Decision, Wait, decide
from tests.support.builders import NOW, a_fact, a_payment, a_step_record, later

SAGA = booking_saga(decision_window_seconds=900)

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


def undoing(step: FlowState, status: StepStatus, *, attempts: int = 1) -> StepRecord:
    return a_step_record(step, UNDO, status, attempts=attempts)


def decided(
    *records: StepRecord,
    facts: tuple[Fact, ...] = (AUTHORISED,),
    now: datetime = NOW,
    just_called: StepRecord | None = None,
) -> Decision:
    return decide(
        SAGA,
        a_payment(state=S.COMPENSATING, facts=facts),
        {(record.step, record.direction): record for record in records},
        now=now,
        just_called=just_called,
    )


def asked(decision: Decision) -> tuple[str, Direction]:
    assert isinstance(decision, Ask)
    return (decision.record.step, decision.record.direction)


def test_capture_is_undone_first() -> None:
    decision = decided(PREAUTH, BOOKED, CAPTURE, facts=(AUTHORISED, CAPTURED))

    assert asked(decision) == (S.CAPTURE, UNDO)


def test_booking_is_undone_when_the_money_is_back() -> None:
    decision = decided(PREAUTH, BOOKED, CAPTURE, facts=(AUTHORISED, CAPTURED, REFUNDED))

    assert asked(decision) == (S.BOOKING_CONFIRMATION, UNDO)


def test_hold_is_released_last() -> None:
    cancelled = undoing(S.BOOKING_CONFIRMATION, StepStatus.DONE)

    assert asked(decided(PREAUTH, BOOKED, cancelled)) == (S.PREAUTH, UNDO)


def test_steps_before_are_not_undone_while_a_later_one_waits() -> None:
    refunding = undoing(S.CAPTURE, StepStatus.WAITING)

    decision = decided(PREAUTH, BOOKED, CAPTURE, refunding, facts=(AUTHORISED, CAPTURED))

    assert isinstance(decision, Wait)


def test_nothing_left_completes_the_undo() -> None:
    cancelled = undoing(S.BOOKING_CONFIRMATION, StepStatus.DONE)

    assert decided(PREAUTH, BOOKED, cancelled, facts=(AUTHORISED, CANCELLED)) is E.UNDO_COMPLETED


def test_payment_that_never_went_out_has_nothing_to_undo() -> None:
    assert decided(facts=()) is E.UNDO_COMPLETED


def test_refused_booking_is_not_undone() -> None:
    refused = a_step_record(S.BOOKING_CONFIRMATION, status=StepStatus.REFUSED)

    assert asked(decided(PREAUTH, refused)) == (S.PREAUTH, UNDO)


def test_booking_without_an_answer_is_undone() -> None:
    hanging = a_step_record(S.BOOKING_CONFIRMATION, attempts=4)

    assert asked(decided(PREAUTH, hanging)) == (S.BOOKING_CONFIRMATION, UNDO)


def test_first_ask_of_an_undo_is_a_decision_of_its_own() -> None:
    decision = decided(PREAUTH, now=later(9))

    assert decision == Ask(
        act=give_money_back,
        record=a_step_record(S.PREAUTH, UNDO, started_at=later(9)),
        on_rejected=None,
    )


def test_booking_is_undone_by_cancelling_it() -> None:
    decision = decided(PREAUTH, BOOKED)

    assert isinstance(decision, Ask)
    assert decision.act is cancel_booking


def test_authorisation_that_nobody_answered_for_is_released_all_the_same() -> None:
    assert asked(decided(PREAUTH, facts=())) == (S.PREAUTH, UNDO)


def test_silence_does_not_prove_that_the_money_is_back() -> None:
    releasing = undoing(S.PREAUTH, StepStatus.WAITING)

    assert isinstance(decided(PREAUTH, releasing, facts=()), Wait)


@pytest.mark.parametrize(
    "facts",
    [
        (AUTHORISED, CANCELLED),
        (AUTHORISED, a_fact(K.EXPIRED, occurred_at=later(2))),
        (AUTHORISED, CAPTURED, REFUNDED),
        (a_fact(K.REFUSED),),
        (CANCELLED,),
    ],
    ids=["cancelled", "expired", "refunded", "refused", "voided unseen"],
)
def test_evidence_that_nothing_is_left_ends_the_undo_without_asking(
    facts: tuple[Fact, ...],
) -> None:
    assert decided(PREAUTH, facts=facts) is E.UNDO_COMPLETED


def test_partial_refund_is_not_the_money_back() -> None:
    part = a_fact(K.REFUNDED, reference="REF1", amount_minor=5000, occurred_at=later(2))

    assert asked(decided(PREAUTH, CAPTURE, facts=(AUTHORISED, CAPTURED, part))) == (S.CAPTURE, UNDO)


@pytest.mark.parametrize(
    "facts",
    [(AUTHORISED, CANCEL_REFUSED), (AUTHORISED, CAPTURED, REFUND_REFUSED)],
    ids=["cancel", "refund"],
)
def test_refusal_for_good_asks_for_a_person(facts: tuple[Fact, ...]) -> None:
    assert decided(PREAUTH, facts=facts) is E.UNDO_FAILED


def test_void_refused_because_we_were_paid_leads_to_a_refund() -> None:
    releasing = undoing(S.PREAUTH, StepStatus.WAITING)

    decision = decided(PREAUTH, releasing, facts=(AUTHORISED, CAPTURED, CANCEL_REFUSED))

    assert asked(decision) == (S.CAPTURE, UNDO)


def test_booking_service_that_refuses_to_cancel_asks_for_a_person() -> None:
    refused = undoing(S.BOOKING_CONFIRMATION, StepStatus.REFUSED)

    assert decided(PREAUTH, BOOKED, refused) is E.UNDO_FAILED


def test_undo_that_failed_is_put_off_and_then_asked_for_again() -> None:
    failed = undoing(S.PREAUTH, StepStatus.ASKED)
    delay = UNDO_RETRY.delays_seconds[0]

    after_the_call = decided(PREAUTH, failed, now=later(1), just_called=failed)
    when_due = decided(PREAUTH, failed, now=later(1 + delay))

    assert after_the_call == Wait(later(1 + delay), jitter_seconds=delay / 2)
    assert isinstance(when_due, Ask)
    assert when_due.record.attempts == 2


@pytest.mark.parametrize("status", [StepStatus.ASKED, StepStatus.WAITING])
def test_undo_fails_after_its_last_call(status: StepStatus) -> None:
    calls = len(UNDO_RETRY.delays_seconds) + 1

    assert decided(PREAUTH, undoing(S.PREAUTH, status, attempts=calls)) is E.UNDO_FAILED


@pytest.mark.parametrize("seconds", [0, 1, 59.9])
def test_wake_while_waiting_for_the_webhook_does_not_ask_again(seconds: float) -> None:
    releasing = undoing(S.PREAUTH, StepStatus.WAITING)

    assert decided(PREAUTH, releasing, now=later(seconds)) == Wait(later(60))


def test_webhook_that_stays_away_is_asked_for_again() -> None:
    releasing = undoing(S.PREAUTH, StepStatus.WAITING)

    decision = decided(PREAUTH, releasing, now=later(60))

    assert isinstance(decision, Ask)
    assert (decision.record.attempts, decision.record.round) == (2, releasing.round)


def test_later_calls_wait_longer_than_a_webhook_takes() -> None:
    releasing = undoing(S.PREAUTH, StepStatus.WAITING, attempts=5)

    assert decided(PREAUTH, releasing, now=later(60)) == Wait(later(3600))


def test_reopened_undo_is_asked_for_at_once() -> None:
    reopened = undoing(S.PREAUTH, StepStatus.ASKED, attempts=0)

    decision = decided(PREAUTH, reopened, now=later(5000))

    assert isinstance(decision, Ask)
    assert decision.record.attempts == 1
