"""The mail gateway against a mail server that says, hangs or dies where the test wants (F32)."""

import socket
from collections.abc import Mapping
from dataclasses import replace
from time import sleep

import pytest

from app.domain.payment import Payment
from app.domain.saga import Reply
from app.embedded import free_port
from app.errors import GatewayError, GatewayNotAsked, GatewayTimeout, GatewayUnavailable
from app.gateways.mail import SmtpMailGateway
from app.gateways.smtp import SmtpServer
from app.sagas.booking import send_confirmation
from tests.support.builders import DETAILS, PAYMENT_ID, a_command, a_payment
from tests.support.mail import POINTS, Dialogues, Trouble
from tests.support.peers import Script, a_peer, silent, smtp

BEFORE_A_MAIL = ("HELLO", "EHLO")
BEFORE_ITS_END = ("MAIL", "RCPT", "DATA")
SLOWLY = 0.35  #: Below the timeout, so that no single wait is too long.


def a_gateway(
    port: int, *, host: str = "127.0.0.1", tls: str = "none", user: str = ""
) -> SmtpMailGateway:
    server = SmtpServer(
        host=host, port=port, tls=tls, user=user, password="secret", timeout_seconds=1
    )
    return SmtpMailGateway(server, sender="Shop <shop@example.com>")


def send(port: int, payment: Payment | None = None) -> Reply:
    return a_gateway(port).handle(a_command(send_confirmation(payment or a_payment())))


def failure_of(server: Dialogues) -> GatewayError:
    with server.listening() as port, pytest.raises(GatewayError) as caught:
        send(port)
    assert caught.value.retryable
    return caught.value


def a_payment_for(*, email: str = "s.hopper@example.com", booking: str = "BK-1") -> Payment:
    details = {**DETAILS, "shopper": {"email": email}, "booking": {"reference": booking}}
    return replace(a_payment(), details=details)


def test_a_mail_that_the_server_takes_is_sent() -> None:
    server = Dialogues()
    with server.listening() as port:
        reply = send(port)

    assert reply.success
    assert [reply.data["message_id"]] == server.message_ids
    assert str(PAYMENT_ID) in str(reply.data["message_id"])
    assert server.heard == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


def test_the_same_payment_gives_the_same_mail() -> None:
    server = Dialogues()
    with server.listening() as port:
        assert send(port).data == send(port).data

    assert len(set(server.contents)) == 1


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", [b"550", b"552", b"554"])
def test_a_permanent_refusal_is_a_no(verb: str, code: bytes) -> None:
    with a_peer(smtp({verb: code + b" no s.hopper@example.com here"})) as port:
        reply = send(port)

    assert not reply.success
    assert reply.data == {"smtp_code": int(code), "refused_at": verb}


def test_a_refusals_enhanced_code_is_kept_and_its_words_are_not() -> None:
    with a_peer(smtp({"RCPT": b"550 5.1.1 <s.hopper@example.com>: no such mailbox"})) as port:
        reply = send(port)

    assert reply.data == {"smtp_code": 550, "smtp_status": "5.1.1", "refused_at": "RCPT"}


@pytest.mark.parametrize("code", [b"421", b"450", b"554"])
@pytest.mark.parametrize("point", BEFORE_A_MAIL)
def test_a_server_that_begins_no_session_was_not_asked(point: str, code: bytes) -> None:
    """What it says before there is a mail is about us, and no refusal of a mail."""
    replies = {point: code + b" no", "HELO": code + b" no"}
    with a_peer(smtp(replies)) as port, pytest.raises(GatewayNotAsked, match=code.decode()):
        send(port)


@pytest.mark.parametrize("code", [b"421", b"451", b"452"])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_a_temporary_refusal_is_tried_again(verb: str, code: bytes) -> None:
    with (
        a_peer(smtp({verb: code + b" later"})) as port,
        pytest.raises(GatewayUnavailable, match=code.decode()) as caught,
    ):
        send(port)

    assert type(caught.value) is GatewayUnavailable


@pytest.mark.parametrize("trouble", [*Trouble, b"421 closing", b"500 what", b"garbage"])
def test_a_mail_that_was_taken_is_sent_whatever_the_server_says_to_goodbye(
    trouble: Trouble | bytes,
) -> None:
    server = Dialogues([{"QUIT": trouble}])
    with server.listening() as port:
        reply = send(port)

    assert reply.success


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("point", POINTS)
def test_wherever_a_server_hangs_or_dies_it_is_known_whether_a_mail_may_have_gone_out(
    point: str, trouble: Trouble
) -> None:
    """F32: only what was there to its end may have been sent, and only that is unknown."""
    server = Dialogues([{point: trouble}])

    error = failure_of(server)

    if point in BEFORE_A_MAIL:
        assert (type(error), server.contents) == (GatewayNotAsked, [])
    elif point in BEFORE_ITS_END:
        assert (type(error), server.contents) == (GatewayUnavailable, [])
        assert point in str(error)
    else:
        assert type(error) is GatewayTimeout
        assert len(server.contents) == 1
        assert server.message_ids[0] in str(error)


def test_a_server_that_dies_while_it_reads_a_mail_is_no_yes() -> None:
    def die_in_the_middle(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        for reply in (b"220 peer", b"250 peer", b"250 ok", b"250 ok", b"354 go on"):
            connection.sendall(reply + b"\r\n")
            lines.readline()
        connection.shutdown(socket.SHUT_RDWR)

    with (
        a_peer(die_in_the_middle) as port,
        pytest.raises((GatewayUnavailable, GatewayTimeout)) as caught,
    ):
        send(port)

    assert not isinstance(caught.value, GatewayNotAsked)


@pytest.mark.parametrize("answer", [b"garbage", b"354 go on", b"99 what", b"", b"2"])
def test_an_answer_that_means_nothing_leaves_it_unknown(answer: bytes) -> None:
    with a_peer(smtp({".": answer})) as port, pytest.raises(GatewayTimeout):
        send(port)


def test_a_yes_that_is_cut_off_is_no_yes() -> None:
    def cut_off(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        for reply in (b"220 peer", b"250 peer", b"250 ok", b"250 ok"):
            connection.sendall(reply + b"\r\n")
            lines.readline()
        connection.sendall(b"354 go on\r\n")
        while lines.readline() != b".\r\n":
            pass
        connection.sendall(b"250 tak")
        connection.shutdown(socket.SHUT_RDWR)

    with a_peer(cut_off) as port, pytest.raises(GatewayTimeout):
        send(port)


def test_a_mail_is_not_ended_when_too_little_time_is_left_for_the_answer() -> None:
    server = Dialogues()

    def be_slow(connection: socket.socket) -> None:
        sleep(2 * SLOWLY)
        server._talk(connection)  # noqa: SLF001  # the same dialogue, later

    with a_peer(be_slow) as port, pytest.raises(GatewayUnavailable, match="too long"):
        send(port)

    assert server.heard == ["EHLO", "MAIL", "RCPT", "DATA"]
    assert server.contents == []


@pytest.mark.parametrize("greeting", [b"220 peer.example\r\n", b"220-peer\r\n" * 20 + b"220 x\r\n"])
def test_a_server_that_drips_is_hung_up_on_before_it_is_through(greeting: bytes) -> None:
    """F57: no line, and no number of lines, is given more than the total time."""
    was_heard_out: list[bool] = []

    def drip(connection: socket.socket) -> None:
        step = 1 if greeting.count(b"\n") == 1 else 10
        for place in range(0, len(greeting), step):
            connection.sendall(greeting[place : place + step])
            sleep(SLOWLY)
        was_heard_out.append(True)

    with a_peer(drip) as port, pytest.raises(GatewayNotAsked):
        send(port)

    assert was_heard_out == []


def test_a_server_that_talks_without_end_is_hung_up_on() -> None:
    def talk(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"220-more\r\n" * 1000)

    with a_peer(talk) as port, pytest.raises(GatewayNotAsked):
        send(port)


@pytest.mark.parametrize("script", [silent, smtp({"HELLO": b"HTTP/1.1 400 Bad Request"})])
def test_a_server_that_says_nothing_sensible_was_not_asked(script: Script) -> None:
    with a_peer(script) as port, pytest.raises(GatewayNotAsked):
        send(port)


@pytest.mark.parametrize("host", ["127.0.0.1", "no.invalid", "", "a..b", "x" * 70])
def test_a_server_that_is_not_there_was_not_asked(host: str) -> None:
    gateway = a_gateway(free_port(), host=host)

    with pytest.raises(GatewayNotAsked):
        gateway.handle(a_command(send_confirmation(a_payment())))


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
        {"booking": "BK\ud800"},
    ],
)
def test_what_no_mail_can_carry_is_refused_without_asking(details: Mapping[str, str]) -> None:
    server = Dialogues()
    with server.listening() as port:
        reply = send(port, a_payment_for(**details))

    assert not reply.success
    assert reply.data["unsendable"] in {"recipient", "text"}
    assert server.heard == []


@pytest.mark.parametrize(
    "booking",
    [
        "BK\u20281001",
        "BK\x851001",
        "BK-\u00e4\u20ac\U0001f6eb",
        "x" * 80,
        ".",
        "\r\n.\r\nMAIL FROM:<eve@example.com>\r\n",
        "=?utf-8?q?BK=0D=0ABcc:_eve=40example.com?=",
    ],
)
def test_whatever_is_booked_is_one_mail_to_one_recipient(booking: str) -> None:
    server = Dialogues()
    with server.listening() as port:
        reply = send(port, a_payment_for(booking=booking))

    assert reply.success
    assert server.heard == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert len(server.contents) == 1
