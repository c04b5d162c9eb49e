"""What each event does to a payment: its state, its reason, its PSP reference."""

import pytest

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import FactKind
from app.domain.payment import Change, EventKind, Payment, PaymentEvent, begin
from app.errors import IllegalTransition
from tests.support.builders import (
    DETAILS,
    EUR_125,
    NOW,
    PAYMENT_ID,
    a_fact,
    a_payment,
    a_started_event,
    later,
)

S, E, K = FlowState, FlowEvent, FactKind


def changing(payment: Payment) -> Change:
    return Change(payment=payment, at=later(5), cause="test")


def test_started_payment_begins_at_the_fraud_check_with_nothing_known() -> None:
    payment = begin(PAYMENT_ID, a_started_event())

    assert payment.state is S.FRAUD_CHECK
    assert (payment.amount, payment.details) == (EUR_125, DETAILS)
    assert (payment.psp_reference, payment.reason, payment.version) == (None, None, 1)


def test_reported_payment_begins_external_under_the_reference_of_the_psp() -> None:
    started = a_started_event()
    reported = PaymentEvent(
        kind=EventKind.REPORTED,
        at=NOW,
        cause="webhook:1",
        data={**started.data, "payment_psp_reference": "PAY1"},
    )

    payment = begin(PAYMENT_ID, reported)

    assert (payment.state, payment.psp_reference) == (S.EXTERNAL, "PAY1")


@pytest.mark.parametrize("change", [{"details": "none"}, {"amount_minor": "12500"}])
def test_event_without_details_or_amount_begins_no_payment(change: dict[str, object]) -> None:
    started = a_started_event()
    event = PaymentEvent(kind=started.kind, at=NOW, cause="api", data={**started.data, **change})

    with pytest.raises(TypeError, match="does not begin"):
        begin(PAYMENT_ID, event)


@pytest.mark.parametrize("kind", [EventKind.STARTED, EventKind.REPORTED])
def test_payment_begins_once(kind: EventKind) -> None:
    again = PaymentEvent(kind=kind, at=NOW, cause="api", data=a_started_event().data)

    with pytest.raises(ValueError, match="begins once"):
        a_payment().after(again)


def test_stored_move_without_a_row_is_refused() -> None:
    moved = PaymentEvent(
        kind=EventKind.FLOW_MOVED, at=NOW, cause="test", data={"event": E.MAIL_SENT}
    )

    with pytest.raises(IllegalTransition):
        a_payment(state=S.PREAUTH).after(moved)


def test_move_keeps_where_it_came_from_and_why() -> None:
    change = changing(a_payment(state=S.PREAUTH))

    has_moved = change.move(E.AUTHORISATION_SUCCEEDED, because="the webhook")

    assert has_moved
    assert change.events[0].data == {
        "event": "authorisation_succeeded",
        "from": "preauth",
        "to": "booking_confirmation",
        "because": "the webhook",
    }


def test_row_that_stays_is_no_event_of_its_own() -> None:
    change = changing(a_payment(state=S.FIN))

    has_moved = change.move(E.AUTHORISATION_SUCCEEDED)

    assert not has_moved
    assert change.events == []


@pytest.mark.parametrize(
    "kind",
    [
        EventKind.TRANSITION_REFUSED,
        EventKind.STEP_ANSWERED,
        EventKind.STEP_FAILED,
        EventKind.NOTED,
    ],
)
def test_note_counts_and_changes_nothing_else(kind: EventKind) -> None:
    before = a_payment()
    change = changing(before)

    change.add(kind, {"note": "anything"})

    after = change.payment
    assert (after.state, after.reason, after.funds) == (before.state, before.reason, before.funds)
    assert (after.version, after.updated_at) == (before.version + 1, later(5))


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (S.FRAUD_CHECK, E.FRAUD_CHECK_REFUSED),
        (S.PREAUTH, E.AUTHORISATION_REFUSED),
        (S.BOOKING_CONFIRMATION, E.BOOKING_REFUSED),
        (S.CAPTURE, E.CAPTURE_UNRESOLVED),
        (S.COMPENSATING, E.UNDO_FAILED),
    ],
)
def test_event_that_said_no_is_the_reason(state: FlowState, event: FlowEvent) -> None:
    change = changing(a_payment(state=state))

    change.move(event)

    assert change.payment.reason == event


def test_undone_payment_keeps_the_reason_why_it_was_undone() -> None:
    change = changing(a_payment(state=S.COMPENSATING, reason=E.BOOKING_REFUSED))

    change.move(E.UNDO_COMPLETED)

    assert change.payment.reason == E.BOOKING_REFUSED


def test_success_after_a_refusal_clears_the_reason() -> None:
    change = changing(a_payment(state=S.DECLINED, reason=E.AUTHORISATION_REFUSED))

    change.move(E.AUTHORISATION_SUCCEEDED)

    assert change.payment.reason is None


def told(payment: Payment, kind: FactKind, reference: str | None) -> Payment:
    change = changing(payment)
    change.record_fact(a_fact(kind, reference=reference or "MOD"), payment_psp_reference=reference)
    return change.payment


def test_first_reference_that_is_told_is_the_payments() -> None:
    assert told(a_payment(), K.PENDING, "PAY1").psp_reference == "PAY1"


def test_fact_without_a_reference_changes_none() -> None:
    assert told(a_payment(psp_reference="PAY1"), K.CAPTURED, None).psp_reference == "PAY1"


def test_authorised_attempt_wins_over_a_refused_one() -> None:
    refused = told(a_payment(), K.REFUSED, "PAY1")

    assert told(refused, K.AUTHORISED, "PAY2").psp_reference == "PAY2"


def test_refused_attempt_never_replaces_an_authorised_one() -> None:
    authorised = told(a_payment(), K.AUTHORISED, "PAY2")

    assert told(authorised, K.REFUSED, "PAY1").psp_reference == "PAY2"


def test_second_authorised_attempt_does_not_rename_the_payment() -> None:
    authorised = told(a_payment(), K.AUTHORISED, "PAY1")

    assert told(authorised, K.AUTHORISED, "PAY2").psp_reference == "PAY1"
