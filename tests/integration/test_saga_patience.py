"""Parties that answer late or never: asked again, never assumed (F4, F8, F14)."""

from app.domain.payment import CaptureMode
from app.errors import GatewayNotAsked, GatewayRejected, GatewayTimeout, GatewayUnavailable
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service

HOUR = 3600


def modification(code: str, *, success: bool = True, reference: str = "MOD1") -> dict[str, object]:
    return an_item(
        code,
        success=success,
        psp_reference=reference,
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:30:00+01:00",
    )


def test_a_rejection_after_a_call_without_answer_voids_what_that_call_may_hold(
    service: Service,
) -> None:
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")]
    payment_id = service.start()
    service.settle()
    service.outside.psp.failures = [GatewayRejected("401: the API key was rotated meanwhile")]

    service.later(1)

    assert service.payment(payment_id).state == "compensating"
    assert service.outside.psp.asked("cancel") == 1


def test_a_timeout_is_not_a_decline(service: Service) -> None:
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")]
    payment_id = service.start()
    service.settle()

    service.receive(an_item())

    assert service.payment(payment_id).state == "fin"
    assert len(service.outside.psp.effects) == 1


def test_an_unavailable_party_is_asked_again_under_the_same_key(service: Service) -> None:
    service.outside.psp.failures = [GatewayUnavailable("503"), GatewayUnavailable("503")]
    service.start()
    for _ in range(3):
        service.later(2)

    assert service.outside.psp.asked("authorise") == 3
    assert len({key for _what, key in service.outside.psp.calls}) == 1


def test_a_booking_without_answer_is_cancelled_before_the_money_goes_back(
    service: Service,
) -> None:
    order: list[str] = []
    service.outside.booking.lost_answers = [GatewayTimeout("no answer")] * 4
    payment_id = service.start()
    service.settle()
    service.outside.booking.before_answer = lambda: order.append("booking")
    service.outside.psp.before_answer = lambda: order.append("psp")
    service.deliver(an_item())
    for _ in range(6):
        service.later(2)

    service.receive(modification("CANCELLATION"))

    assert service.payment(payment_id).state == "compensated"
    assert order == ["booking", "psp"]
    assert service.outside.booking.asked("confirm") == 4
    assert len(service.outside.booking.effects) == 2


def test_a_rejected_booking_after_one_without_answer_is_cancelled(service: Service) -> None:
    service.outside.booking.lost_answers = [GatewayTimeout("no answer")]
    service.start()
    service.settle()
    service.receive(an_item())
    service.outside.booking.failures = [GatewayRejected("401: the token was rotated meanwhile")]

    service.later(1)

    assert service.outside.booking.asked("cancel") == 1


def test_a_capture_without_webhook_is_asked_for_again_then_handed_to_a_person(
    service: Service,
) -> None:
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    for _ in range(27):
        service.later(HOUR)

    assert service.payment(payment_id).state == "manual_review"
    assert service.outside.psp.asked("capture") > 1
    assert len({key for what, key in service.outside.psp.calls if what == "capture"}) == 1


def test_a_mail_server_that_stays_away_ends_in_fin_with_the_failures_on_the_timeline(
    service: Service,
) -> None:
    service.outside.mail.failures = [GatewayUnavailable("connection refused")] * 20
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    for _ in range(10):
        service.later(400)

    assert service.payment(payment_id).state == "fin"
    failures = service.events(payment_id, "step_failed")
    assert {data["step"] for data in failures} == {"email"}
    assert service.open_breaks() == []


def test_a_preauth_without_webhook_is_voided_at_its_deadline(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.later(899)
    before = service.payment(payment_id).state
    service.later(1)

    assert (before, service.payment(payment_id).state) == ("preauth", "compensating")
    assert service.outside.psp.asked("cancel") == 1
    service.receive(modification("CANCELLATION"))
    assert service.payment(payment_id).state == "compensated"


def test_a_preauth_that_the_psp_answered_with_refused_is_declined_at_its_deadline(
    service: Service,
) -> None:
    service.outside.psp.result = "Refused"
    payment_id = service.start()
    service.later(0)
    service.later(900)

    assert service.payment(payment_id).state == "declined"
    assert service.outside.psp.asked("cancel") == 0


def test_a_webhook_that_overtakes_the_answer_moves_the_payment_once(service: Service) -> None:
    payment_id = service.start()

    def overtake() -> None:
        service.outside.psp.before_answer = lambda: None
        service.deliver(an_item())
        service.drain()

    service.outside.psp.before_answer = overtake
    service.settle()

    assert service.path(payment_id) == ["preauth", "booking_confirmation", "email", "fin"]
    assert service.outside.psp.asked("authorise") == 1
    assert service.outside.booking.asked("confirm") == service.outside.mail.asked("send") == 1


def test_a_call_that_never_left_uses_up_no_attempt(service: Service) -> None:
    service.outside.booking.failures = [GatewayNotAsked("left alone")] * 12
    payment_id = service.start()
    service.receive(an_item())
    while service.outside.booking.failures:
        service.later(5)
    service.later(300)

    assert service.payment(payment_id).state == "fin"
    assert service.outside.booking.asked("confirm") == 13
    [record] = service.rows(
        "SELECT attempts FROM saga_steps WHERE step = 'booking_confirmation' AND direction = 'act'"
    )
    assert record["attempts"] == 1


def test_a_party_that_is_never_asked_is_given_up_at_the_deadline(service: Service) -> None:
    service.outside.fraud.failures = [GatewayNotAsked("left alone")] * 200
    payment_id = service.start()
    for _ in range(70):
        service.later(5)

    assert service.payment(payment_id).state == "declined"


def test_a_rejection_after_a_call_that_never_left_is_a_rejection(service: Service) -> None:
    service.outside.psp.failures = [GatewayNotAsked("left alone"), GatewayRejected("422")]
    payment_id = service.start()
    service.later(5)
    service.later(5)

    assert service.payment(payment_id).state == "declined"
    assert service.outside.psp.asked("cancel") == 0


def test_an_undo_that_never_left_is_asked_for_as_soon_as_it_may(service: Service) -> None:
    service.outside.booking.says_yes = False
    service.start()
    service.settle()
    service.outside.psp.failures = [GatewayNotAsked("left alone")] * 12
    service.receive(an_item())
    while service.outside.psp.failures:
        service.later(5)
    service.later(300)

    assert list(service.outside.psp.effects.values()).count("cancel") == 1
