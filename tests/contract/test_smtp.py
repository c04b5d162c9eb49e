"""The mail gateway against a mail server that says what the test wants (F32)."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from app.domain.payment import Payment
from app.domain.saga import Reply
from app.embedded import free_port
from app.errors import GatewayError, GatewayTimeout, GatewayUnavailable
from app.gateways.mail import SmtpMailGateway
from app.sagas.booking import send_confirmation
from tests.support.builders import DETAILS, NOW, a_command, a_payment
from tests.support.clock import FixedClock
from tests.support.peers import Script, a_peer, silent, smtp


def a_gateway(port: int, *, host: str = "127.0.0.1", tls: str = "none") -> SmtpMailGateway:
    return SmtpMailGateway(
        host=host,
        port=port,
        tls=tls,
        user="",
        password="",
        sender="shop@example.com",
        timeout_seconds=1,
        clock=FixedClock(NOW),
    )


def send(port: int, payment: Payment | None = None) -> Reply:
    return a_gateway(port).handle(a_command(send_confirmation(payment or a_payment())))


def a_payment_for(*, email: str = "s.hopper@example.com", booking: str = "BK-1") -> Payment:
    details = {**DETAILS, "shopper": {"email": email}, "booking": {"reference": booking}}
    return replace(a_payment(), details=details)


def test_a_mail_that_the_server_takes_is_sent() -> None:
    with a_peer(smtp()) as port:
        reply = send(port)

    assert reply.success
    assert str(a_payment().payment_id) in str(reply.data["message_id"])


def test_the_same_payment_gives_the_same_message_id() -> None:
    with a_peer(smtp()) as port:
        assert send(port).data == send(port).data


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", [b"550", b"552", b"554"])
def test_a_permanent_refusal_is_a_no(verb: str, code: bytes) -> None:
    with a_peer(smtp({verb: code + b" no"})) as port:
        reply = send(port)

    assert not reply.success
    assert reply.data["smtp_code"] == int(code)


@pytest.mark.parametrize("verb", ["HELLO", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", [b"421", b"451", b"452"])
def test_a_temporary_refusal_is_tried_again(verb: str, code: bytes) -> None:
    with a_peer(smtp({verb: code + b" later"})) as port, pytest.raises(GatewayError) as caught:
        send(port)

    assert caught.value.retryable


@pytest.mark.parametrize("goodbye", [b"421 closing", b"500 what", b"", b"garbage"])
def test_a_mail_that_was_taken_is_sent_whatever_the_server_says_to_goodbye(goodbye: bytes) -> None:
    with a_peer(smtp({"QUIT": goodbye})) as port:
        reply = send(port)

    assert reply.success


@pytest.mark.parametrize("verb", ["HELLO", "MAIL", "RCPT", "DATA", "."])
def test_a_server_that_hangs_up_is_tried_again(verb: str) -> None:
    with a_peer(smtp({verb: b""})) as port, pytest.raises(GatewayError) as caught:
        send(port)

    assert caught.value.retryable


@pytest.mark.parametrize("script", [silent, smtp({"HELLO": b"HTTP/1.1 400 Bad Request"})])
def test_a_server_that_says_nothing_sensible_is_tried_again(script: Script) -> None:
    with a_peer(script) as port, pytest.raises((GatewayTimeout, GatewayUnavailable)):
        send(port)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(GatewayUnavailable):
        send(free_port())


def test_a_host_that_does_not_exist_is_unavailable() -> None:
    with pytest.raises(GatewayUnavailable):
        a_gateway(25, host="no.invalid").handle(a_command(send_confirmation(a_payment())))


def test_no_mail_goes_out_unprotected_when_protection_is_asked_for() -> None:
    with a_peer(smtp()) as port, pytest.raises(GatewayUnavailable):
        a_gateway(port, tls="starttls").handle(a_command(send_confirmation(a_payment())))


@pytest.mark.parametrize(
    "details",
    [
        {"email": "a,b@example.com"},
        {"email": "a;b@example.com"},
        {"email": '"@example.com'},
        {"email": "(@example.com"},
        {"email": "<a@b.com>"},
        {"email": "a@[1.2.3"},
        {"email": "a@b.com,c"},
        {"booking": "BK\u20281001"},
        {"booking": "BK\x851001"},
        {"booking": "BK-\u00e4\u20ac\U0001f6eb"},
        {"booking": "x" * 80},
    ],
)
def test_whatever_the_api_lets_in_is_sent_or_refused_but_never_a_crash(
    details: Mapping[str, str],
) -> None:
    with a_peer(smtp({"RCPT": b"550 no such mailbox"})) as port:
        reply = send(port, a_payment_for(**details))

    assert not reply.success
