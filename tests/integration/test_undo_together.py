"""Undos side by side: none waits for a service that hangs, and a person is told in time (F28, F29).

Promise 3: what was not sold is given back, or lies on a named person's desk.
"""

from uuid import UUID

import pytest

from app.domain.payment import CaptureMode
from app.errors import GatewayError, GatewayNotAsked, GatewayTimeout, GatewayUnavailable
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.sagas import DAY
from tests.support.service import Row, Service

HOUR = 3600.0


def capture_refused() -> dict[str, object]:
    return an_item("CAPTURE", success=False, psp_reference="CAP1", original_reference=PSP_REFERENCE)


def cancellation(*, success: bool = True) -> dict[str, object]:
    return an_item(
        "CANCELLATION",
        success=success,
        psp_reference="MODCANCEL",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:30:00+01:00",
    )


def booked(service: Service) -> UUID:
    """Bring a payment to its capture: its booking stands, and its money is on hold."""
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    return payment_id


def reviews(service: Service) -> list[Row]:
    return service.rows("SELECT owner, reason, step, next_step, opened_at, closed_at FROM reviews")


@pytest.mark.parametrize("error", [GatewayUnavailable, GatewayTimeout, GatewayNotAsked])
def test_a_booking_service_that_is_away_does_not_keep_the_shoppers_money(
    service: Service, error: type[GatewayError]
) -> None:
    """F28."""
    payment_id = booked(service)
    service.outside.booking.failures = [error("?")] * 3

    service.receive(capture_refused())

    assert service.outside.booking.asked("cancel") == service.outside.psp.asked("cancel") == 1
    service.receive(cancellation())
    between = service.payment(payment_id)
    for _ in range(3):
        service.later(60)
    assert (between.state, between.funds.held) == ("compensating", 0)
    assert service.payment(payment_id).state == "compensated"
    assert list(service.outside.booking.effects.values()).count("cancel") == 1


def test_a_booking_service_that_works_is_asked_before_the_money_goes_back(service: Service) -> None:
    """F27."""
    order: list[str] = []
    booked(service)
    service.outside.booking.before_answer = lambda: order.append("booking")
    service.outside.psp.before_answer = lambda: order.append("psp")

    service.receive(capture_refused())

    assert order == ["booking", "psp"]


def test_a_wake_by_the_moneys_webhook_is_no_reason_to_ask_the_booking_service_early(
    service: Service,
) -> None:
    """F37."""
    booked(service)
    service.outside.booking.failures = [GatewayUnavailable("503")] * 9
    service.receive(capture_refused())
    service.receive(cancellation())

    assert service.outside.booking.asked("cancel") == 1
    [step] = service.rows(
        "SELECT due FROM saga_steps WHERE step = 'booking_confirmation' AND direction = 'undo'"
    )
    [saga] = service.rows("SELECT due FROM saga_instances")
    assert step["due"] == saga["due"] > service.clock.now()


def test_money_that_the_psp_refuses_to_give_back_waits_for_a_booking_that_is_soon_tried_again(
    service: Service,
) -> None:
    """F29: one look at the payment is enough."""
    payment_id = booked(service)
    service.outside.booking.failures = [GatewayUnavailable("503")]
    service.receive(capture_refused())
    service.receive(cancellation(success=False))
    before = service.payment(payment_id).state

    service.later(2)

    assert (before, service.payment(payment_id).state) == ("compensating", "manual_review")
    assert list(service.outside.booking.effects.values()) == ["confirm", "cancel"]
    assert [review["step"] for review in reviews(service)] == ["preauth"]


def test_money_that_the_psp_refuses_to_give_back_does_not_wait_for_a_booking_until_tomorrow(
    service: Service,
) -> None:
    """F29: what failed is on a person's desk although another undo goes on."""
    payment_id = booked(service)
    service.outside.booking.failures = [GatewayUnavailable("503")] * 99
    service.receive(capture_refused())
    for _ in range(5):
        service.later(HOUR)
    before = service.payment(payment_id).state

    service.receive(cancellation(success=False))

    assert (before, service.payment(payment_id).state) == ("compensating", "manual_review")
    [review] = reviews(service)
    assert review["step"] == "preauth"
    assert "125.00 EUR" in review["next_step"]


def test_an_undo_that_fails_for_good_lies_on_a_named_persons_desk(service: Service) -> None:
    """F29: with its owner, its age, its reason and what to do next."""
    payment_id = booked(service)
    service.outside.booking.failures = [GatewayUnavailable("503")] * 99
    service.receive(capture_refused())
    service.receive(cancellation())
    for _ in range(20):
        service.later(DAY)

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("manual_review", "undo_failed")
    [review] = reviews(service)
    next_step = review.pop("next_step") if isinstance(review, dict) else ""
    assert "booking" in next_step
    assert review == {
        "owner": service.container.settings.review_owner,
        "reason": "undo_failed",
        "step": "booking_confirmation",
        "opened_at": payment.updated_at,
        "closed_at": None,
    }
    assert service.outside.booking.asked("cancel") == 11
    assert service.sagas_without_a_future() == []


def test_a_capture_without_an_outcome_lies_on_a_desk_without_a_step_to_undo(
    service: Service,
) -> None:
    """F14."""
    payment_id = booked(service)
    for _ in range(27):
        service.later(HOUR)

    assert service.payment(payment_id).state == "manual_review"
    [review] = reviews(service)
    assert (review["reason"], review["step"]) == ("capture_unresolved", None)
    assert "capture" in review["next_step"].lower()


def test_a_payment_that_ends_well_lies_on_nobodys_desk(service: Service) -> None:
    booked(service)
    service.receive(an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE))

    assert reviews(service) == []
