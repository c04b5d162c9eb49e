"""Every way through the flow, with what is asked of whom (contract.md section 5; F8, F27, F32)."""

import pytest

from app.domain.payment import CaptureMode
from app.errors import GatewayRejected
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


def test_manual_capture_ends_in_fin_with_the_money_on_hold(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.receive(an_item())

    assert service.path(payment_id) == ["preauth", "booking_confirmation", "email", "fin"]
    assert service.payment(payment_id).funds.status == "authorised"
    assert service.outside.psp.asked("capture") == 0


def test_automatic_capture_ends_in_fin_with_the_money_captured(service: Service) -> None:
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    service.receive(modification("CAPTURE"))

    assert service.path(payment_id) == [
        "preauth",
        "booking_confirmation",
        "capture",
        "email",
        "fin",
    ]
    assert service.payment(payment_id).funds.status == "captured"
    assert service.outside.psp.asked("capture") == 1


def test_no_mail_is_sent_before_the_capture_webhook(service: Service) -> None:
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())

    assert service.payment(payment_id).state == "capture"
    assert service.outside.mail.calls == []


def test_the_psps_answer_alone_confirms_nothing(service: Service) -> None:
    payment_id = service.start()
    service.settle()

    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.status) == ("preauth", "pending")
    assert service.outside.booking.calls == []


def test_fraud_declines_before_the_psp_is_asked(service: Service) -> None:
    service.outside.fraud.says_yes = False
    payment_id = service.start()
    service.settle()

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("declined", "fraud_check_refused")
    assert service.outside.psp.calls == []


def test_a_request_that_the_psp_rejects_declines(service: Service) -> None:
    service.outside.psp.failures = [GatewayRejected("422")]
    payment_id = service.start()
    service.settle()

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("declined", "authorisation_rejected")


def test_a_refused_booking_gives_the_money_back(service: Service) -> None:
    """It is cancelled as well: a "no" may answer the repetition of a call that worked (F30)."""
    service.outside.booking.says_yes = False
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    service.receive(modification("CANCELLATION"))

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("compensated", "booking_refused")
    assert [what for what, _key in service.outside.booking.calls] == ["confirm", "cancel"]
    assert payment.funds.status == "cancelled"


@pytest.mark.parametrize("code", ["CAPTURE", "CAPTURE_FAILED"])
def test_a_refused_capture_compensates(service: Service, code: str) -> None:
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())

    service.receive(modification(code, success=code == "CAPTURE_FAILED"))

    assert service.payment(payment_id).state == "compensating"
    assert service.outside.booking.asked("cancel") == 1
    assert service.outside.psp.asked("cancel") == 1


def test_a_capture_that_fails_after_fin_changes_the_funds_alone(service: Service) -> None:
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    service.receive(modification("CAPTURE"))

    service.receive(modification("CAPTURE_FAILED"))

    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.status) == ("fin", "authorised")


def test_a_mail_that_is_refused_undoes_nothing(service: Service) -> None:
    service.outside.mail.says_yes = False
    payment_id = service.start()
    service.settle()
    service.receive(an_item())

    assert service.payment(payment_id).state == "fin"
    assert service.events(payment_id, "flow_moved")[-1]["event"] == "mail_failed"
    assert service.outside.booking.asked("cancel") == service.outside.psp.asked("cancel") == 0
