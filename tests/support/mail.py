"""Mail servers that keep what they took, over TLS, or with trouble at one point of the dialogue."""

import ipaddress
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern_policy
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.peers import SMTP_REPLIES, a_peer, silent

HOST = "127.0.0.1"

#: Certificates of tests are dated for the machine's own time, which TLS asks.
LONG = timedelta(days=3650)
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


class Trouble(Enum):
    """What a server does at a point of the dialogue in place of its reply."""

    HANGS = "hangs"
    HANGS_UP = "hangs up"


#: The points of a dialogue in their order; ``.`` is the end of the content.
POINTS = ("HELLO", "EHLO", "MAIL", "RCPT", "DATA", ".")


@dataclass
class Dialogues:
    """A mail server in clear, with trouble at some points of its next dialogues.

    Attributes:
        troubles: The point and the trouble of each next dialogue; none when they are used up.
        heard: The verbs that were said to it, in order.
        contents: Every content that was there to its end, whatever was answered.
    """

    troubles: list[Mapping[str, Trouble | bytes]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Serve while the block runs; yields the port."""
        with a_peer(self._talk) as port:
            yield port

    @property
    def message_ids(self) -> list[str]:
        """The Message-IDs of what was there to its end."""
        return [str(message_of(content)["Message-ID"]) for content in self.contents]

    def _talk(self, connection: socket.socket) -> None:
        troubles = self.troubles.pop(0) if self.troubles else {}
        lines = connection.makefile("rb")
        _say(connection, "HELLO", troubles)
        for line in lines:
            verb = line[:4].strip().upper().decode("ascii", "replace")
            self.heard.append(verb)
            _say(connection, verb, troubles)
            if verb == "DATA":
                self.contents.append(_read_content(lines))
                _say(connection, ".", troubles)


def _read_content(lines: BinaryIO) -> bytes:
    content = b""
    while (line := lines.readline()) != b".\r\n":
        if not line:
            raise ConnectionResetError
        content += line
    return content


def _say(connection: socket.socket, point: str, troubles: Mapping[str, Trouble | bytes]) -> None:
    reply = troubles.get(point, SMTP_REPLIES.get(point, b"502 what"))
    if reply is Trouble.HANGS:
        silent(connection)
    if isinstance(reply, Trouble):
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError
    connection.sendall(reply + b"\r\n")


@dataclass
class Mailbox:
    """What a real mail server took.

    Attributes:
        senders: Whoever began a mail, in clear or not.
        contents: What was taken.
        were_protected: For each of them, whether it came inside TLS.
    """

    senders: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    were_protected: list[bool] = field(default_factory=list)

    async def handle_MAIL(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        self.senders.append(address)
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self.contents.append(envelope.original_content or b"")
        assert server.transport is not None
        self.were_protected.append(server.transport.get_extra_info("ssl_object") is not None)
        return "250 OK"


class _Server(Controller):
    """A mail server that may offer STARTTLS."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        inside: ssl.SSLContext | None,
        offered: ssl.SSLContext | None,
        port: int,
    ) -> None:
        self._offered = offered
        super().__init__(mailbox, hostname=HOST, port=port, ssl_context=inside)

    def factory(self) -> SMTP:
        return SMTP(self.handler, tls_context=self._offered, hostname="localhost")


@contextmanager
def a_mail_server(*, port: int, tls: str, certificate: Path | None = None) -> Iterator[Mailbox]:
    """A real mail server, with a certificate unless ``tls`` is ``none``."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    mailbox = Mailbox()
    server = _Server(
        mailbox,
        inside=context if tls == "tls" else None,
        offered=context if tls == "starttls" else None,
        port=port,
    )
    server.start()
    try:
        yield mailbox
    finally:
        server.stop()


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, folder: Path, name: str = "authority") -> "Authority":
        """Make one; what it signs lies in ``folder``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        certificate = (
            _a_certificate(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(folder, key, certificate)

    @property
    def trusted(self) -> ssl.SSLContext:
        """What trusts this authority, and no other."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def sign(self, *, host: str = HOST, ended_at: datetime | None = None) -> Path:
        """Return a file with a certificate for a host, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name: x509.GeneralName = x509.DNSName(host)
        if host == HOST:
            name = x509.IPAddress(ipaddress.ip_address(host))
        certificate = (
            _a_certificate(_named(host), self.certificate.subject, key, ended_at=ended_at)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = self.folder / f"{certificate.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file


def message_of(content: bytes) -> EmailMessage:
    """Read a mail as a reader does."""
    return message_from_bytes(content, policy=modern_policy)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _a_certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    ended_at: datetime | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(EPOCH)
        .not_valid_after(ended_at or EPOCH + 4 * LONG)
    )
