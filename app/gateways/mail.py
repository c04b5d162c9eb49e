"""The confirmation mail, over SMTP."""

import smtplib
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing, suppress
from email.errors import MessageError
from email.message import EmailMessage
from html import escape
from time import monotonic

from app.clock import Clock
from app.domain.money import Money
from app.domain.saga import Command, Reply
from app.errors import GatewayTimeout, GatewayUnavailable

#: From this reply code on, the server refuses for good (RFC 5321 section 4.2.1).
PERMANENT_FAILURE = 500


class SmtpMailGateway:
    """Sends mails, one connection a mail."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: str,
        user: str,
        password: str,
        sender: str,
        timeout_seconds: int,
        clock: Clock,
    ) -> None:
        """Address the server.

        Args:
            host: The server.
            port: Its port.
            tls: ``none``, ``starttls`` or ``tls``.
            user: Empty to send without login.
            password: Of ``user``.
            sender: The From address.
            timeout_seconds: Total time of one mail.
            clock: Dates the mails.
        """
        self._host = host
        self._port = port
        self._tls = tls
        self._user = user
        self._password = password
        self._sender = sender
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def handle(self, command: Command) -> Reply:
        """Carry out a command; see ``Participant``.

        The Message-ID follows from the payment, so that a mail sent twice (a crash between the
        server's answer and our commit) can be told from two mails.
        """
        try:
            message = self._confirmation(command.data)
        except (ValueError, AttributeError, MessageError) as error:
            # The mail library raises all of these for addresses that no mail can carry.
            return Reply(success=False, data={"unsendable": type(error).__name__})
        try:
            with closing(self._connect()) as server:
                if self._tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self._user:
                    server.login(self._user, self._password)
                server.send_message(message)
                with suppress(smtplib.SMTPException, OSError):
                    server.quit()  # the mail is taken, whatever the server says to goodbye
        except smtplib.SMTPRecipientsRefused as refusal:
            codes = (code for code, _text in refusal.recipients.values())
            return _refused(max(codes, default=PERMANENT_FAILURE))
        except smtplib.SMTPResponseException as error:
            return _refused(error.smtp_code)
        except (smtplib.SMTPServerDisconnected, TimeoutError) as error:
            raise GatewayTimeout("the mail server gave no answer") from error
        except (smtplib.SMTPException, OSError) as error:
            raise GatewayUnavailable(f"the mail server: {type(error).__name__}") from error
        return Reply(success=True, data={"message_id": message["Message-ID"]})

    def _connect(self) -> smtplib.SMTP:
        ends_at = monotonic() + self._timeout_seconds
        connect = _SmtpsWithDeadline if self._tls == "tls" else _SmtpWithDeadline
        server = connect(self._host, self._port, timeout=self._timeout_seconds)
        server.ends_at = ends_at
        return server

    def _confirmation(self, data: Mapping[str, object]) -> EmailMessage:
        reference = data["booking_reference"]
        amount = Money(int(str(data["amount_minor"])), str(data["currency"]))
        domain = self._sender.rpartition("@")[2]
        lines = (
            f"Your booking {reference} is confirmed.",
            f"Payment {data['merchant_reference']}: {amount}.",
        )
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = str(data["to"])
        message["Subject"] = f"Booking {reference} confirmed"
        message["Date"] = self._clock.now()
        message["Message-ID"] = f"<{data['payment_id']}.{data['template']}@{domain}>"
        message.set_content("\n".join(lines) + "\n")
        paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines)
        message.add_alternative(f"<html><body>{paragraphs}</body></html>", subtype="html")
        return message


class _Deadline:
    """Gives every reply of the server what is left of the mail's time.

    Attributes:
        ends_at: Of the monotonic clock.
    """

    ends_at = float("inf")
    sock: socket.socket | None

    def getreply(self) -> tuple[int, bytes]:
        left = self.ends_at - monotonic()
        if left <= 0:
            raise TimeoutError
        if self.sock is not None and left != float("inf"):
            self.sock.settimeout(left)
        return super().getreply()  # type: ignore[misc,no-any-return]  # of smtplib.SMTP


class _SmtpWithDeadline(_Deadline, smtplib.SMTP):
    """SMTP, in the clear or with STARTTLS."""


class _SmtpsWithDeadline(_Deadline, smtplib.SMTP_SSL):
    """SMTP inside TLS; certificates are verified."""

    def __init__(self, host: str, port: int, *, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout, context=ssl.create_default_context())


def _refused(code: int) -> Reply:
    """A permanent refusal is a no; a temporary one is tried again (RFC 5321 section 4.2.1)."""
    if code < PERMANENT_FAILURE:
        raise GatewayUnavailable(f"the mail server answered {code}")
    return Reply(success=False, data={"smtp_code": code})
