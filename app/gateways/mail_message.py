"""A mail as bytes: a template filled in, as text and as HTML.

Whatever a template is filled with stays content. A header is either plain ASCII, or encoded as a
whole; nothing in it is ever decoded on the way, so that no value begins a header of its own.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.charset import QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime, formataddr, parseaddr
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, select_autoescape

from app.domain.mail_addresses import is_mail_address
from app.domain.money import Money
from app.domain.saga import Command
from app.errors import GatewayRejected

#: Each is three files: subject, text and HTML.
TEMPLATES = frozenset({"confirmation"})

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(("html",)),
    undefined=StrictUndefined,
    auto_reload=False,
)

_POLICY = compat32.clone(linesep="\r\n", mangle_from_=False)

_UTF_8 = Charset("utf-8")
_UTF_8.body_encoding = QP


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail that can be handed over.

    Attributes:
        message_id: The same for a payment and a template, on every try.
        sender: The address that bounces go to.
        recipient: One address.
        content: Headers and body; every line ends with CR LF.
    """

    message_id: str
    sender: str
    recipient: str
    content: bytes


class Unsendable(ValueError):
    """No mail can be made of this; the message names what is wrong, never its value."""


def compose(command: Command, *, sender: str) -> Mail:
    """Fill in the command's template; the same command gives the same bytes.

    Args:
        command: Its data names the template and holds what goes into it.
        sender: The From address, with or without a name: ``Shop <shop@example.com>``.

    Raises:
        GatewayRejected: There is no such template, or the command lacks something that it needs.
        Unsendable: Its recipient, or a text in it, can't be mailed.
    """
    data = command.data
    template = str(data.get("template"))
    if template not in TEMPLATES:
        raise GatewayRejected("there is no such mail template")
    recipient = str(data.get("to"))
    if not is_mail_address(recipient):
        raise Unsendable("recipient")
    name, address = parseaddr(sender)
    message_id = f"<{data['payment_id']}.{template}@{address.rpartition('@')[2]}>"
    try:
        message = _alternatives(template, _values(data), message_id)
        message["From"] = formataddr((name, address))
        message["To"] = recipient
        message["Date"] = format_datetime(command.timestamp)
        message["Message-ID"] = message_id
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
        content = message.as_bytes(policy=_POLICY)
    except TemplateError as error:
        raise GatewayRejected(f"the mail can't be written: {type(error).__name__}") from error
    except UnicodeError:
        raise Unsendable("text") from None
    return Mail(message_id=message_id, sender=address, recipient=recipient, content=content)


def _values(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return what a template may use: the command's data, its amount as people write it."""
    if "amount_minor" not in data:
        return data
    return {**data, "amount": Money(int(str(data["amount_minor"])), str(data["currency"]))}


def _alternatives(template: str, values: Mapping[str, object], message_id: str) -> MIMEMultipart:
    subject, text, html = (
        _ENVIRONMENT.get_template(f"{template}{suffix}").render(values)
        for suffix in (".subject.txt", ".txt", ".html")
    )
    # No body holds it: the encoding of the parts writes every = as =3D.
    boundary = f"=_{hashlib.sha256(message_id.encode()).hexdigest()[:32]}"
    message = MIMEMultipart("alternative", boundary=boundary)
    message.attach(MIMEText(text, "plain", _UTF_8))  # type: ignore[arg-type]
    message.attach(MIMEText(html, "html", _UTF_8))  # type: ignore[arg-type]
    message["Subject"] = _header("Subject", subject)
    return message


def _header(name: str, text: str) -> str:
    """Return the text on one line, encoded unless nobody could read anything into it (RFC 2047)."""
    line = " ".join(text.split())
    if line.isascii() and line.isprintable() and "=?" not in line:
        return line
    return Header(line, "utf-8", header_name=name).encode()
