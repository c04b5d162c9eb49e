"""Undoing: it fails and then works, or fails for good and a person looks (F28, F29, F30, F31)."""

from collections.abc import Callable
from uuid import UUID

import pytest

from app.domain.payment import CaptureMode
from app.errors import GatewayError, GatewayRejected, GatewayTimeout, GatewayUnavailable
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service

DAY = 24 * 3600


def cancellation(*, success: bool = True) -> dict[str, object]:
    """What the PSP says of the cancellation that was asked for."""
    return an_item(
        "CANCELLATION",
        success=success,
        psp_reference="MODCANCEL",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:30:00+01:00",
    )


@pytest.fixture
def undoing(service: Service) -> Callable[[], UUID]:
    """Bring a payment to its first undo."""

    def bring() -> UUID:
        service.outside.booking.says_yes = False
        payment_id = service.start()
        service.settle()
        service.receive(an_item())
        assert service.payment(payment_id).state == "compensating"
        return payment_id

    return bring


def test_an_undo_is_done_when_the_psp_says_so_not_when_it_answers(
    service: Service, undoing: Callable[[], UUID]
) -> None:
    payment_id = undoing()

    before = service.payment(payment_id).state
    service.receive(cancellation())

    assert (before, service.payment(payment_id).state) == ("compensating", "compensated")


@pytest.mark.parametrize("error", [GatewayUnavailable, GatewayTimeout, GatewayRejected])
def test_an_undo_that_fails_is_tried_again_under_the_same_key_until_it_works(
    service: Service, error: type[GatewayError]
) -> None:
    service.outside.booking.says_yes = False
    payment_id = service.start()
    service.settle()
    service.outside.psp.failures = [error("1"), error("2"), error("3")]
    service.receive(an_item())
    for _ in range(4):
        service.later(70)

    service.receive(cancellation())

    keys = [key for what, key in service.outside.psp.calls if what == "cancel"]
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert service.payment(payment_id).state == "compensated"


def test_an_undo_whose_webhook_stays_away_is_asked_for_again(
    service: Service, undoing: Callable[[], UUID]
) -> None:
    payment_id = undoing()

    service.later(60)

    assert service.outside.psp.asked("cancel") == 2
    assert service.payment(payment_id).state == "compensating"


def test_an_undo_without_any_answer_goes_to_a_person_in_the_end(
    service: Service, undoing: Callable[[], UUID]
) -> None:
    payment_id = undoing()
    for _ in range(20):
        service.later(DAY)

    assert service.payment(payment_id).state == "manual_review"
    assert service.outside.psp.asked("cancel") == 11


def test_a_cancellation_that_is_refused_for_good_goes_to_a_person(
    service: Service, undoing: Callable[[], UUID]
) -> None:
    payment_id = undoing()

    service.receive(cancellation(success=False))

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("manual_review", "undo_failed")
    assert payment.funds.held == 12500


def test_a_cancellation_that_is_refused_because_we_were_paid_becomes_a_refund(
    service: Service, undoing: Callable[[], UUID]
) -> None:
    payment_id = undoing()
    captured = an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE)

    service.receive(captured, cancellation(success=False))

    assert service.payment(payment_id).state == "compensating"
    assert service.outside.psp.asked("refund") == 1


def test_a_refund_that_becomes_necessary_is_not_hidden_behind_the_voids_key(
    service: Service, undoing: Callable[[], UUID]
) -> None:
    undoing()
    captured = an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE)

    service.receive(captured, cancellation(success=False))

    keys = {what: key for what, key in service.outside.psp.calls if what != "authorise"}
    assert keys["cancel"] != keys["refund"]


def test_steps_are_undone_last_first_and_one_after_the_other(service: Service) -> None:
    """F27."""
    order: list[str] = []
    service.outside.booking.before_answer = lambda: order.append("booking")
    service.outside.psp.before_answer = lambda: order.append("psp")
    service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    order.clear()

    service.receive(
        an_item("CAPTURE", success=False, psp_reference="CAP1", original_reference=PSP_REFERENCE)
    )

    assert order == ["booking", "psp"]


def test_a_void_that_reaches_the_psp_before_the_authorisation_is_enough(service: Service) -> None:
    service.outside.psp.failures = [GatewayUnavailable("503")] * 40
    payment_id = service.start()
    for _ in range(16):
        service.later(60)
    assert service.payment(payment_id).state == "compensating"
    service.outside.psp.failures = []
    service.later(400)

    service.receive(
        an_item(
            "TECHNICAL_CANCEL",
            psp_reference="VOID1",
            amount_minor=0,
            event_date="2026-11-20T10:30:00+01:00",
        )
    )

    assert service.payment(payment_id).state == "compensated"
    assert service.payment(payment_id).funds.held == 0


def test_no_payment_is_compensated_while_money_is_held(service: Service) -> None:
    service.outside.booking.says_yes = False
    ids = [service.start(merchant_reference=f"ORDER-{number}") for number in range(4)]
    service.settle()
    for number in range(3):
        service.receive(an_item(psp_reference=f"PSP{number}", merchant_reference=f"ORDER-{number}"))
    service.later(1000)

    assert [service.payment(payment_id).state for payment_id in ids] == ["compensating"] * 4


def test_a_capture_that_comes_after_the_compensation_is_refunded(
    service: Service, undoing: Callable[[], UUID]
) -> None:
    payment_id = undoing()
    service.receive(cancellation())

    service.receive(an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE))

    assert service.payment(payment_id).state == "compensating"
    assert service.outside.psp.asked("refund") == 1
    assert service.open_breaks() == ["LATE_SUCCESS"]


@pytest.mark.parametrize("is_void_told_first", [True, False])
def test_a_success_after_the_void_is_voided_under_a_new_key_in_either_order_of_webhooks(
    service: Service, *, is_void_told_first: bool
) -> None:
    service.outside.psp.failures = [GatewayUnavailable("503")] * 40
    payment_id = service.start()
    for _ in range(16):
        service.later(60)
    service.outside.psp.failures = []
    service.later(400)
    assert service.payment(payment_id).state == "compensating"
    told = [
        an_item(
            "TECHNICAL_CANCEL",
            psp_reference="MODCANCEL",
            amount_minor=0,
            event_date="2026-11-20T10:30:00+01:00",
        ),
        an_item(event_date="2026-11-20T10:31:00+01:00"),
    ]

    for item in told if is_void_told_first else told[::-1]:
        service.receive(item)
    service.later(400)

    assert len({key for what, key in service.outside.psp.calls if what == "cancel"}) == 2
