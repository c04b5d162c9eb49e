"""A mail goes out inside TLS, to the right server, or not at all."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.saga import Reply
from app.embedded import free_port
from app.errors import GatewayNotAsked
from app.gateways.mail import SmtpMailGateway
from app.gateways.smtp import SmtpServer
from app.sagas.booking import send_confirmation
from tests.support.builders import a_command, a_payment
from tests.support.mail import HOST, Authority, Dialogues, Mailbox, a_mail_server, message_of

PROTECTED = ["starttls", "tls"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("authority"))


def send(authority: Authority, port: int, tls: str, *, host: str = HOST, user: str = "") -> Reply:
    server = SmtpServer(
        host=host,
        port=port,
        tls=tls,
        user=user,
        password="secret",
        timeout_seconds=5,
        context=authority.trusted,
    )
    gateway = SmtpMailGateway(server, sender="shop@example.com")
    return gateway.handle(a_command(send_confirmation(a_payment())))


def refused(authority: Authority, certificate: Path, tls: str, *, host: str = HOST) -> Mailbox:
    """Offer a mail to a server with a certificate that must not do; return what it heard."""
    port = free_port()
    with (
        a_mail_server(port=port, tls=tls, certificate=certificate) as mailbox,
        pytest.raises(GatewayNotAsked),
    ):
        send(authority, port, tls, host=host)
    return mailbox


@pytest.mark.parametrize("tls", PROTECTED)
def test_a_mail_goes_out_inside_tls(authority: Authority, tls: str) -> None:
    port = free_port()
    with a_mail_server(port=port, tls=tls, certificate=authority.sign()) as mailbox:
        reply = send(authority, port, tls)

    [content] = mailbox.contents
    assert reply.success
    assert mailbox.were_protected == [True]
    assert message_of(content)["Message-ID"] == reply.data["message_id"]


@pytest.mark.parametrize("tls", PROTECTED)
def test_a_server_that_somebody_else_vouches_for_gets_no_mail(
    authority: Authority, tmp_path: Path, tls: str
) -> None:
    stranger = Authority.new(tmp_path, "stranger")

    assert refused(authority, stranger.sign(), tls) == Mailbox()


@pytest.mark.parametrize("tls", PROTECTED)
def test_a_server_of_another_name_gets_no_mail(authority: Authority, tls: str) -> None:
    certificate = authority.sign(host="mail.example.com")

    assert refused(authority, certificate, tls) == Mailbox()


@pytest.mark.parametrize("tls", PROTECTED)
def test_a_server_whose_certificate_has_ended_gets_no_mail(authority: Authority, tls: str) -> None:
    certificate = authority.sign(ended_at=datetime(2021, 1, 1, tzinfo=UTC))

    assert refused(authority, certificate, tls) == Mailbox()


@pytest.mark.parametrize("user", ["", "shop"])
def test_a_server_without_tls_hears_neither_a_mail_nor_a_password(
    authority: Authority, user: str
) -> None:
    server = Dialogues()
    with server.listening() as port, pytest.raises(GatewayNotAsked):
        send(authority, port, "starttls", user=user)

    assert server.heard == ["EHLO"]


@pytest.mark.parametrize("answer", [b"454 not now", b"501 what", b"220 go on\r\n250 ok"])
def test_a_server_that_offers_tls_and_begins_none_hears_no_mail(
    authority: Authority, answer: bytes
) -> None:
    server = Dialogues([{"EHLO": b"250-peer\r\n250 STARTTLS", "STAR": answer}])
    with server.listening() as port, pytest.raises(GatewayNotAsked):
        send(authority, port, "starttls")

    assert server.heard[:2] == ["EHLO", "STAR"]
    assert not {"MAIL", "AUTH"} & set(server.heard)


def test_a_server_in_clear_gets_nothing_where_tls_comes_first(authority: Authority) -> None:
    server = Dialogues()
    with server.listening() as port, pytest.raises(GatewayNotAsked):
        send(authority, port, "tls")

    assert server.contents == []
