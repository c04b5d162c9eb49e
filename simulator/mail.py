"""The mail server: real SMTP, keeps what it accepts."""

import json
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern_policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from simulator import clock
from simulator.database import Database

REFUSED_PREFIX = "bounce@"


class Mailbox:
    """Accepts every mail except to addresses that begin with ``bounce@``."""

    def __init__(self, database: Database) -> None:
        """Keep accepted mails in ``database``."""
        self._database = database

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        """Accept or refuse one recipient."""
        if address.lower().startswith(REFUSED_PREFIX):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Store the mail; it is on disk before the sender hears 250."""
        content = (envelope.original_content or b"").replace(b"\r\n", b"\n")
        message = message_from_bytes(content, policy=modern_policy)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO mails (sender, recipients, message_id, subject, body, received_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    envelope.mail_from or "",
                    json.dumps(envelope.rcpt_tos),
                    message.get("Message-ID", ""),
                    message.get("Subject", ""),
                    _text(message),
                    clock.now(),
                ),
            )
        return "250 OK"


def mail_server(database: Database, port: int) -> Controller:
    """Return a server for 127.0.0.1 that is not started yet; it runs in a thread of its own."""
    return Controller(
        Mailbox(database), hostname="127.0.0.1", port=port, server_hostname="localhost"
    )


def _text(message: EmailMessage) -> str:
    """Return the plain text of a mail, else its HTML; empty if it has neither."""
    part = message.get_body(("plain", "html"))
    return str(part.get_content()) if part is not None else ""
