"""What each step of the booking saga asks of the outside, and what it makes of the answer."""

import pytest

from app.domain.flow import MOVES, FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
from app.domain.payment import CaptureMode
from app.domain.saga import StepStatus
from app.sagas.booking import (
    ask_authorisation,
    ask_booking,
    ask_capture,
    ask_fraud_check,
    cancel_booking,
    give_money_back,
    send_mail,
)
from app.sagas.definition import Act, Call
from tests.support.builders import a_fact, a_payment, later
from tests.support.fakes import FakeOutside

S, E, K = FlowState, FlowEvent, FactKind

CAPTURED = a_fact(K.CAPTURED, reference="CAP1")
PARTLY_REFUNDED = a_fact(K.REFUNDED, reference="REF1", amount_minor=2500, occurred_at=later(1))


def a_call(outside: FakeOutside, *facts: Fact, capture: CaptureMode = CaptureMode.MANUAL) -> Call:
    return Call(
        payment=a_payment(facts=facts, capture=capture),
        idempotency_key="key-1",
        gateways=outside.participants(),
    )


@pytest.mark.parametrize(
    ("act", "state", "yes", "no"),
    [
        (ask_fraud_check, S.FRAUD_CHECK, E.FRAUD_CHECK_PASSED, E.FRAUD_CHECK_REFUSED),
        (ask_booking, S.BOOKING_CONFIRMATION, E.BOOKING_CONFIRMED, E.BOOKING_REFUSED),
        (send_mail, S.EMAIL, E.MAIL_SENT, E.MAIL_FAILED),
    ],
)
def test_answer_of_yes_or_no_decides_the_step(
    act: Act, state: FlowState, yes: FlowEvent, no: FlowEvent
) -> None:
    willing, unwilling = FakeOutside(), FakeOutside()
    for party in (unwilling.fraud, unwilling.booking, unwilling.mail):
        party.says_yes = False

    accepted, refused = act(a_call(willing)), act(a_call(unwilling))

    assert (accepted.status, accepted.event) == (StepStatus.DONE, yes)
    assert (refused.status, refused.event) == (StepStatus.REFUSED, no)
    assert {(state, yes), (state, no)} <= set(MOVES)


def test_booking_leads_to_the_capture_if_that_is_automatic() -> None:
    outcome = ask_booking(a_call(FakeOutside(), capture=CaptureMode.AUTOMATIC))

    assert outcome.event is E.BOOKING_CONFIRMED_FOR_CAPTURE


@pytest.mark.parametrize("result", ["Authorised", "Refused", "Pending"])
def test_answer_to_the_authorisation_decides_nothing(result: str) -> None:
    outside = FakeOutside()
    outside.psp.result = result

    outcome = ask_authorisation(a_call(outside))

    assert (outcome.status, outcome.event) == (StepStatus.WAITING, None)
    assert outcome.evidence["result"] == result
    assert outcome.payment_psp_reference == "8816178914079738"


def test_answer_to_the_capture_decides_nothing_and_names_no_payment() -> None:
    outside = FakeOutside()

    outcome = ask_capture(a_call(outside))

    assert (outcome.status, outcome.event) == (StepStatus.WAITING, None)
    assert outcome.payment_psp_reference is None
    assert outside.psp.calls == [("capture", "key-1")]


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        ((), "cancel"),
        ((a_fact(),), "cancel"),
        ((a_fact(), CAPTURED), "refund"),
        ((a_fact(), CAPTURED, PARTLY_REFUNDED), "refund"),
        ((CAPTURED,), "refund"),
    ],
    ids=["unknown", "held", "captured", "partly refunded", "captured first"],
)
def test_money_that_we_keep_is_refunded_and_a_hold_is_cancelled(
    facts: tuple[Fact, ...], asked: str
) -> None:
    outside = FakeOutside()

    outcome = give_money_back(a_call(outside, *facts))

    [(what, key)] = outside.psp.calls
    assert (what, len(key)) == (asked, 64)
    assert (outcome.status, outcome.event) == (StepStatus.WAITING, None)


def test_what_is_asked_for_is_part_of_the_key_and_its_repetition_is_not() -> None:
    outside = FakeOutside()

    give_money_back(a_call(outside, a_fact()))
    give_money_back(a_call(outside, a_fact()))
    give_money_back(a_call(outside, a_fact(), CAPTURED))

    cancel, again, refund = outside.psp.calls
    assert cancel == again
    assert refund[1] != cancel[1]


def test_cancelled_booking_is_done_at_once() -> None:
    outside = FakeOutside()

    outcome = cancel_booking(a_call(outside))

    assert (outcome.status, outcome.event) == (StepStatus.DONE, None)
    assert outside.booking.calls == [("cancel", "key-1")]
