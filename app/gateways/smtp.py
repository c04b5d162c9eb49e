"""One mail, one SMTP dialogue (RFC 5321), and what is known of the mail wherever it breaks off.

A server has taken a mail when it answers 2xx to the end of its content. So whatever happens before
that end is sent has sent nothing, and an answer that stays away after it is unknown. Everything
here makes that last stretch short: the end goes out by itself, only if there is time left for the
answer, and after the answer nothing is waited for.
"""

import re
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from time import monotonic

from app.errors import GatewayNotAsked, GatewayTimeout, GatewayUnavailable
from app.gateways.mail_message import Mail

#: Of a mail's time so much is kept for the one answer that counts: the server checks and stores.
ANSWER_SHARE = 0.4

#: A server that says more than this in a session is none.
SAID_BYTES_MAX = 64 * 1024

#: The hundreds of the reply codes (RFC 5321 section 4.2.1).
_DONE, _GO_ON, _LATER, _NO = 2, 3, 4, 5

#: An enhanced status code (RFC 3463) at the start of a reply's text.
_STATUS = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}\b")

#: Dots that are content and would be read as its end.
_FIRST_DOTS = re.compile(rb"(?m)^\.")

#: How a session fails to begin, or breaks off.
_BROKEN = (smtplib.SMTPException, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server will not take this mail, now or later.

    Attributes:
        at: The command that it refused; ``.`` is the end of the content.
        code: Its reply code, 5xx.
        status: Its enhanced status code; empty if it gave none. Its words may hold the address.
    """

    at: str
    code: int
    status: str


class SmtpServer:
    """A mail server, one connection a mail. Thread-safe."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: str,
        user: str,
        password: str,
        timeout_seconds: float,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Address the server.

        Args:
            host: The server; its certificate must name it.
            port: Its port.
            tls: ``none``, ``starttls`` or ``tls``; nothing goes out in clear but with ``none``.
            user: Empty to send without login.
            password: Of ``user``.
            timeout_seconds: Total time of one mail.
            context: Says which certificates are trusted; those that the system trusts if None.
        """
        self._host = host
        self._port = port
        self._tls = tls
        self._user = user
        self._password = password
        self._timeout_seconds = timeout_seconds
        self._context = context or ssl.create_default_context()

    def send(self, mail: Mail) -> Refusal | None:
        """Hand a mail over.

        Returns:
            None once the server has taken it, or its refusal.

        Raises:
            GatewayNotAsked: No session came about; nothing was sent.
            GatewayUnavailable: The server broke off before it had the whole mail, or says later;
                nothing was sent.
            GatewayTimeout: It had the whole mail, and did not say whether it took it.
        """
        ends_at = monotonic() + self._timeout_seconds
        with closing(self._begin(ends_at)) as session:
            refusal = self._offer(session, mail) or _end(session, mail)
            with suppress(*_BROKEN):
                session.putcmd("QUIT")
            return refusal

    def _begin(self, ends_at: float) -> "_Session":
        context = self._context if self._tls == "tls" else None
        try:
            session = _Session(self._host, self._port, context=context, ends_at=ends_at)
        except _BROKEN as error:
            raise _no_session(error) from error
        try:
            if self._tls == "starttls":
                session.starttls(context=self._context)
            session.ehlo_or_helo_if_needed()
            if self._user:
                session.login(self._user, self._password)
        except _BROKEN as error:
            session.close()
            raise _no_session(error) from error
        return session

    def _offer(self, session: "_Session", mail: Mail) -> Refusal | None:
        """Name sender and recipient, and send the content but for its end."""
        at = "MAIL"
        try:
            for at, argument, wanted in (
                ("MAIL", f"FROM:<{mail.sender}>", _DONE),
                ("RCPT", f"TO:<{mail.recipient}>", _DONE),
                ("DATA", "", _GO_ON),
            ):
                code, text = session.docmd(at, argument)
                if code // 100 == _NO:
                    return _refusal(at, code, text)
                if code // 100 != wanted:
                    raise GatewayUnavailable(f"the mail server answered {code} to {at}")
            at = "the content"
            session.send(_FIRST_DOTS.sub(b"..", mail.content))
        except _BROKEN as error:
            raise GatewayUnavailable(f"the mail server broke off at {at}") from error
        if session.left() < ANSWER_SHARE * self._timeout_seconds:
            raise GatewayUnavailable("the mail server took too long to be told the mail")
        return None


def _end(session: "_Session", mail: Mail) -> Refusal | None:
    """End the content. From here until the answer nobody knows whether the mail is sent."""
    try:
        session.send(b".\r\n")
        code, text = session.getreply()
    except _BROKEN as error:
        raise GatewayTimeout(f"the mail server gave no answer to {mail.message_id}") from error
    if code // 100 == _NO:
        return _refusal(".", code, text)
    if code // 100 == _LATER:
        raise GatewayUnavailable(f"the mail server answered {code} to the mail")
    if code // 100 != _DONE:
        raise GatewayTimeout(f"the mail server gave no answer to {mail.message_id} but nonsense")
    return None


class _Session(smtplib.SMTP):
    """A connection whose every read and write gets what is left of the mail's time."""

    def __init__(
        self, host: str, port: int, *, context: ssl.SSLContext | None, ends_at: float
    ) -> None:
        """Connect, inside TLS if there is a context, and hear the server's greeting."""
        self._context = context
        self._ends_at = ends_at
        try:
            # Without a name of ours it would ask the network for one, for as long as that takes.
            super().__init__(host, port, local_hostname=socket.gethostname())
        except _BROKEN:
            self.close()
            raise
        if self.sock is not None and "." not in self.local_hostname:
            address = self.sock.getsockname()[0]
            self.local_hostname = f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: None are.
        """
        left = self._ends_at - monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send(self, s: bytes | str) -> None:  # type: ignore[override]
        if self.sock is not None:
            self.sock.settimeout(self.left())
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Lines(self.sock, self.left)
        reply = super().getreply()
        self._set_timeout(self.sock)  # for the handshake that may begin now
        return reply

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002
        connection = socket.create_connection((host, port), self.left())
        if self._context is None:
            return connection
        self._set_timeout(connection)
        return self._context.wrap_socket(connection, server_hostname=host)

    def _set_timeout(self, connection: socket.socket | None) -> None:
        with suppress(TimeoutError):  # what comes next is told so
            if connection is not None:
                connection.settimeout(self.left())


class _Lines:
    """What a server says, line by line: a line that drips in is given no more time than another."""

    def __init__(self, connection: socket.socket, left: Callable[[], float]) -> None:
        self._connection = connection
        self._left = left
        self._unread = b""
        self._said_bytes = 0

    def readline(self, size: int) -> bytes:
        while b"\n" not in self._unread and len(self._unread) < size:
            self._connection.settimeout(self._left())
            received = self._connection.recv(4096)
            self._said_bytes += len(received)
            if not received or self._said_bytes > SAID_BYTES_MAX:
                return b""  # a line without its end is no reply
            self._unread += received
        line, end, self._unread = self._unread.partition(b"\n")
        return line + end

    def close(self) -> None:
        """The connection is closed by whoever made it."""


def _refusal(at: str, code: int, text: bytes) -> Refusal:
    status = _STATUS.match(text)
    return Refusal(at=at, code=code, status=status[0].decode() if status else "")


def _no_session(error: Exception) -> GatewayNotAsked:
    code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
    return GatewayNotAsked(f"the mail server: {type(error).__name__}{code}")
