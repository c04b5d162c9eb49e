"""What is asked of the PSP to give the money back, whatever the evidence says by then."""

import pytest

from app.domain.facts import Fact, FactKind
from app.domain.flow import FlowState
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.money_back import (
    capture_may_have_worked,
    give_money_back,
    is_money_back,
    is_refused,
)
from tests.support.builders import PSP_REFERENCE, a_fact, a_payment, a_step_record, later

K = FactKind

HELD = a_fact(payment_reference=PSP_REFERENCE)
CAPTURED = a_fact(K.CAPTURED, reference="CAP1", occurred_at=later(1))
PARTLY_REFUNDED = a_fact(K.REFUNDED, reference="REF1", amount_minor=2500, occurred_at=later(2))
ALSO_HELD = a_fact(reference="PSP2", occurred_at=later(5))

#: What may have become of a capture.
MAYBE = (StepStatus.ASKED, StepStatus.SENT, StepStatus.WAITING, StepStatus.UNRESOLVED)


def refused(hold: str, reference: str = "CAN1", kind: FactKind = K.CANCEL_REFUSED) -> Fact:
    return a_fact(kind, reference=reference, occurred_at=later(9), payment_reference=hold)


def released(hold: str) -> Fact:
    return a_fact(K.CANCELLED, reference="CAN2", occurred_at=later(9), payment_reference=hold)


def subject(
    *facts: Fact, psp_reference: str | None = PSP_REFERENCE, capture: StepRecord | None = None
) -> str:
    records = {("capture", Direction.ACT): capture} if capture else {}
    payment = a_payment(state=FlowState.COMPENSATING, facts=facts, psp_reference=psp_reference)
    request = give_money_back(payment, records)
    assert request.service_id == "psp"
    return request.subject


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        ((), f"cancel:{PSP_REFERENCE}"),
        ((HELD,), f"cancel:{PSP_REFERENCE}"),
        ((HELD, CAPTURED), f"refund:{PSP_REFERENCE}:12500"),
        ((HELD, CAPTURED, PARTLY_REFUNDED), f"refund:{PSP_REFERENCE}:10000"),
        ((CAPTURED,), f"refund:{PSP_REFERENCE}:12500"),
    ],
    ids=["unknown", "held", "captured", "partly refunded", "captured first"],
)
def test_money_that_we_keep_is_refunded_and_a_hold_is_cancelled(
    facts: tuple[Fact, ...], asked: str
) -> None:
    assert subject(*facts) == asked


def test_payment_that_the_psp_has_not_named_is_cancelled_by_our_reference() -> None:
    """F30, F31."""
    request = give_money_back(a_payment(), {})

    assert request.operation == "cancel"
    assert request.data == {"merchant_reference": "ORDER-1001"}


@pytest.mark.parametrize("status", MAYBE)
def test_what_may_have_been_captured_is_reversed(status: StepStatus) -> None:
    """F30."""
    capture = a_step_record("capture", status=status)

    assert subject(HELD, capture=capture) == f"reverse:{PSP_REFERENCE}"


@pytest.mark.parametrize("status", [StepStatus.REFUSED, StepStatus.REJECTED, StepStatus.PUT_OFF])
def test_capture_that_was_refused_or_never_left_needs_no_reversal(status: StepStatus) -> None:
    capture = a_step_record("capture", status=status)

    assert subject(HELD, capture=capture) == f"cancel:{PSP_REFERENCE}"


@pytest.mark.parametrize("told", [K.CAPTURE_REFUSED, K.CAPTURE_FAILED])
def test_capture_that_the_psp_says_failed_needs_no_reversal(told: FactKind) -> None:
    capture = a_step_record("capture", status=StepStatus.WAITING)

    assert subject(HELD, a_fact(told, reference="CAP1"), capture=capture) == (
        f"cancel:{PSP_REFERENCE}"
    )


def test_capture_that_is_told_is_refunded_not_reversed() -> None:
    capture = a_step_record("capture", status=StepStatus.WAITING)

    assert subject(HELD, CAPTURED, capture=capture) == f"refund:{PSP_REFERENCE}:12500"


def test_nobody_reverses_a_capture_that_was_never_asked_for() -> None:
    assert not capture_may_have_worked(a_payment(), None)


def test_two_holds_are_released_one_after_the_other() -> None:
    assert subject(HELD, ALSO_HELD) == f"cancel:{PSP_REFERENCE}"
    assert subject(HELD, ALSO_HELD, released(PSP_REFERENCE)) == "cancel:PSP2"


def test_hold_that_is_refused_does_not_keep_the_other_from_being_released() -> None:
    assert subject(HELD, ALSO_HELD, refused(PSP_REFERENCE)) == "cancel:PSP2"


def test_refused_hold_is_asked_for_again_when_it_is_the_last_one() -> None:
    facts = HELD, ALSO_HELD, refused(PSP_REFERENCE), released("PSP2")

    assert subject(*facts) == f"cancel:{PSP_REFERENCE}"


@pytest.mark.parametrize(
    "facts",
    [
        (HELD, released(PSP_REFERENCE)),
        (HELD, a_fact(K.EXPIRED, occurred_at=later(2))),
        (HELD, CAPTURED, a_fact(K.REFUNDED, reference="REF1", occurred_at=later(2))),
        (a_fact(K.REFUSED),),
        (released(PSP_REFERENCE),),
    ],
    ids=["cancelled", "expired", "refunded", "refused", "voided unseen"],
)
def test_money_is_back_when_the_psp_says_so(facts: tuple[Fact, ...]) -> None:
    assert is_money_back(a_payment(facts=facts))


@pytest.mark.parametrize(
    "facts",
    [
        (),
        (a_fact(K.PENDING),),
        (HELD,),
        (HELD, CAPTURED, PARTLY_REFUNDED),
        (HELD, ALSO_HELD, released(PSP_REFERENCE)),
        (refused(PSP_REFERENCE),),
    ],
    ids=["silence", "pending", "held", "partly refunded", "a second hold", "a refusal"],
)
def test_money_is_not_back_while_some_is_there_or_nothing_is_said(facts: tuple[Fact, ...]) -> None:
    """F30."""
    assert not is_money_back(a_payment(facts=facts))


@pytest.mark.parametrize(
    "kind", [K.CANCEL_REFUSED, K.REFUND_REFUSED, K.UNSPECIFIED_REVERSAL_REFUSED]
)
def test_request_is_refused_for_good_when_the_psp_says_no_to_this_very_one(kind: FactKind) -> None:
    payment = a_payment(facts=(refused(PSP_REFERENCE, reference="MOD7", kind=kind),))

    def asked(reference: object) -> StepRecord:
        return a_step_record(direction=Direction.UNDO, response={"psp_reference": reference})

    assert is_refused(payment, asked("MOD7"))
    assert not is_refused(payment, asked("MOD8"))
    assert not is_refused(payment, asked(None))
