"""Captures, refunds and chargebacks in any order end in the same funds (F12)."""

from itertools import permutations

import pytest

from app.domain.payment import Payment
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service


def modification(
    code: str, reference: str, *, amount_minor: int = 12500, success: bool = True, minute: int = 1
) -> dict[str, object]:
    return an_item(
        code,
        success=success,
        psp_reference=reference,
        original_reference=PSP_REFERENCE,
        merchant_reference="their-own-reference",
        amount_minor=amount_minor,
        event_date=f"2026-11-20T11:{minute:02}:00+01:00",
    )


@pytest.fixture
def finished(service: Service) -> Payment:
    """A payment in fin, with its money on hold."""
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    payment = service.payment(payment_id)
    assert payment.state == "fin"
    return payment


def test_a_modification_finds_its_payment_by_the_original_reference(
    service: Service, finished: Payment
) -> None:
    service.receive(modification("CAPTURE", "CAP1"))

    assert service.payment(finished.payment_id).funds.captured == 12500


def test_a_modification_with_our_reference_but_another_payments_original_is_not_ours(
    service: Service, finished: Payment
) -> None:
    stray = an_item("CAPTURE", psp_reference="CAP1", original_reference="8816000000000000")

    service.receive(stray)

    assert service.payment(finished.payment_id) == finished
    assert [work["state"] for work in service.work()] == ["parked"]


def test_captures_add_up(service: Service, finished: Payment) -> None:
    service.receive(
        modification("CAPTURE", "CAP1", amount_minor=5000),
        modification("CAPTURE", "CAP2", amount_minor=2500),
    )

    funds = service.payment(finished.payment_id).funds
    assert (funds.captured, funds.status) == (7500, "partially_captured")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_failed_capture_in_any_order_leaves_the_hold(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    items = (
        modification("CAPTURE", "CAP1", minute=1),
        modification("CAPTURE_FAILED", "CAP1", minute=2),
        modification("NOTIFICATION_OF_FRAUD", "D1"),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.captured, funds.status) == (0, "authorised")
    assert service.payment(finished.payment_id).state == "fin"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_failed_refund_in_any_order_is_no_refund(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    items = (
        modification("CAPTURE", "CAP1", minute=1),
        modification("REFUND", "REF1", amount_minor=500, minute=2),
        modification("REFUND_FAILED", "REF1", amount_minor=500, minute=3),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.refunded, funds.status) == (0, "captured")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_chargebacks_in_any_order_take_the_amount_once(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    service.receive(modification("CAPTURE", "CAP1"))
    items = (
        modification("CHARGEBACK", "D1", minute=2),
        modification("CHARGEBACK_REVERSED", "D1", minute=3),
        modification("SECOND_CHARGEBACK", "D1", minute=4),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.charged_back, funds.status) == (12500, "charged_back")


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_a_reversed_chargeback_in_any_order_brings_the_money_back(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    service.receive(modification("CAPTURE", "CAP1"))
    items = (
        modification("CHARGEBACK", "D1", minute=2),
        modification("CHARGEBACK_REVERSED", "D1", minute=3),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.charged_back, funds.status) == (0, "captured")


def test_a_dispute_without_original_reference_finds_its_payment_by_its_own(
    service: Service, finished: Payment
) -> None:
    service.receive(modification("CAPTURE", "CAP1"), an_item("CHARGEBACK"))

    assert service.payment(finished.payment_id).funds.charged_back == 12500


@pytest.mark.parametrize(
    ("action", "status"), [("cancel", "cancelled"), ("refund", "refunded"), (None, "refunded")]
)
def test_a_reversal_does_what_its_action_says_or_what_the_funds_tell(
    service: Service, finished: Payment, action: str | None, status: str
) -> None:
    if action != "cancel":
        service.receive(modification("CAPTURE", "CAP1"))
    item = modification("CANCEL_OR_REFUND", "REV1", minute=2)
    if action is not None:
        item["additionalData"] = {"modification.action": action}

    service.receive(item)

    assert service.payment(finished.payment_id).funds.status == status
    assert service.payment(finished.payment_id).state == "fin"
