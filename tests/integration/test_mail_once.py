"""One confirmation for each payment, wherever the mail server breaks off (F32)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from app.factory import create_app
from app.gateways.mail import SmtpMailGateway
from app.gateways.smtp import SmtpServer
from tests.support.builders import an_item
from tests.support.mail import POINTS, Dialogues, Trouble
from tests.support.service import Service

MINUTE, HOUR = 60, 3600


@contextmanager
def mailing_through(service: Service, server: Dialogues) -> Iterator[Service]:
    """The same service, whose mails go to a server in place of the fake."""
    with server.listening() as port:
        smtp = SmtpServer(
            host="127.0.0.1", port=port, tls="none", user="", password="", timeout_seconds=1
        )
        mail = SmtpMailGateway(smtp, sender="shop@example.com")
        outside = {**service.outside.participants(), "mail": mail}
        container = replace(service.container, outside=outside)
        try:
            yield replace(service, container=container, client=create_app(container).test_client())
        finally:
            container.close()


def run_to_rest(service: Service) -> UUID:
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    for _look in range(4):
        service.later(MINUTE)
    return payment_id


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("point", [point for point in POINTS if point != "."])
def test_a_mail_that_did_not_go_out_is_sent_later_and_once(
    service: Service, point: str, trouble: Trouble
) -> None:
    server = Dialogues([{point: trouble}])
    with mailing_through(service, server) as mailing:
        payment_id = run_to_rest(mailing)

        assert mailing.payment(payment_id).state == "fin"
        [answered] = [
            data for data in mailing.events(payment_id, "step_answered") if data["step"] == "email"
        ]
        assert [answered["answer"]["message_id"]] == server.message_ids


@pytest.mark.parametrize("trouble", Trouble)
def test_a_mail_that_may_have_gone_out_is_sent_again_under_the_same_id(
    service: Service, trouble: Trouble
) -> None:
    """At least once in the one stretch where nobody can know; readers see one Message-ID."""
    server = Dialogues([{".": trouble}])
    with mailing_through(service, server) as mailing:
        payment_id = run_to_rest(mailing)
        mailing.later(HOUR)

        first, second = server.message_ids
        assert mailing.payment(payment_id).state == "fin"
        assert first == second
        [unknown] = [
            data for data in mailing.events(payment_id, "step_failed") if data["step"] == "email"
        ]
        assert unknown["error"] == "gateway_timeout"
        assert first in unknown["detail"]


def test_a_server_that_never_says_yes_ends_with_the_payment_booked_and_the_mail_on_the_timeline(
    service: Service,
) -> None:
    """F32: nothing is undone for a mail."""
    server = Dialogues([{"RCPT": b"550 5.1.1 no such mailbox"}])
    with mailing_through(service, server) as mailing:
        payment_id = run_to_rest(mailing)

        assert mailing.payment(payment_id).state == "fin"
        [answered] = [
            data for data in mailing.events(payment_id, "step_answered") if data["step"] == "email"
        ]
        assert answered["answer"] == {
            "smtp_code": 550,
            "smtp_status": "5.1.1",
            "refused_at": "RCPT",
        }
        assert server.contents == []
        assert service.outside.psp.asked("cancel") == service.outside.psp.asked("refund") == 0


def test_no_mail_is_sent_twice_however_often_its_saga_is_looked_at(service: Service) -> None:
    server = Dialogues()
    with mailing_through(service, server) as mailing:
        payment_id = run_to_rest(mailing)
        mailing.deliver(an_item(event_date="2026-11-20T10:00:01+01:00"), an_item(success=False))
        mailing.later(HOUR)
        mailing.sweep_once(in_seconds=24 * HOUR)

        assert mailing.payment(payment_id).state == "fin"
        assert len(server.contents) == 1
