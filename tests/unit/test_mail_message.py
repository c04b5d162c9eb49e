"""A mail as bytes: what stands in it, and what can't be made to stand in it (F32)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.money import Money
from app.domain.saga import Command
from app.errors import GatewayRejected
from app.gateways.mail_message import Unsendable, compose
from app.sagas.booking import send_confirmation
from tests.support.builders import DETAILS, NOW, PAYMENT_ID, a_command, a_payment
from tests.support.mail import message_of

SENDER = "Shop <shop@example.com>"
HEADERS = {
    "Content-Type",
    "MIME-Version",
    "Subject",
    "From",
    "To",
    "Date",
    "Message-ID",
    "Auto-Submitted",
}


def a_confirmation(**data: object) -> Command:
    command = a_command(send_confirmation(a_payment()))
    return replace(command, data={**command.data, **data})


def composed(command: Command | None = None, *, sender: str = SENDER) -> bytes:
    return compose(command or a_confirmation(), sender=sender).content


def raw_headers(content: bytes) -> list[str]:
    """The names of the headers as a server splits them, folded lines taken together."""
    head, _, _body = content.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    return [line.partition(b":")[0].decode() for line in lines]


def parts(content: bytes) -> Mapping[str, str]:
    found = {}
    for part in message_of(content).iter_parts():
        found[part.get_content_type()] = part.get_content()
    return found


def test_a_confirmation_says_what_is_booked_and_paid_as_text_and_as_html() -> None:
    said = parts(composed())

    assert list(said) == ["text/plain", "text/html"]
    for text in said.values():
        assert all(word in text for word in ("BK-1001", "ORDER-1001", "125.00 EUR"))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Money(12500, "EUR"), "125.00 EUR"),
        (Money(80000, "JPY"), "80000 JPY"),
        (Money(12345, "KWD"), "12.345 KWD"),
    ],
)
def test_an_amount_is_written_in_its_currencys_digits(amount: Money, text: str) -> None:
    data = {"amount_minor": amount.amount_minor, "currency": amount.currency}

    assert all(text in said for said in parts(composed(a_confirmation(**data))).values())


def test_a_mail_says_who_when_and_that_no_person_wrote_it() -> None:
    message = message_of(composed())

    assert message["From"] == "Shop <shop@example.com>"
    assert message["To"] == "s.hopper@example.com"
    assert message["Subject"] == "Booking BK-1001 confirmed"
    assert message["Date"].datetime == NOW
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == f"<{PAYMENT_ID}.confirmation@example.com>"


def test_a_command_gives_the_same_bytes_each_time() -> None:
    assert composed() == composed()


def test_a_mails_id_follows_from_payment_and_template_alone() -> None:
    other = replace(
        a_confirmation(booking_reference="BK-2", amount_minor=1),
        timestamp=datetime(2027, 1, 1, tzinfo=UTC),
    )

    ids = {compose(command, sender=SENDER).message_id for command in (a_confirmation(), other)}

    assert len(ids) == 1


def test_text_of_any_language_arrives() -> None:
    booking = "BK-\u00e4\u20ac\U0001f6eb"
    content = composed(a_confirmation(booking_reference=booking), sender="Caf\u00e9 <c@b.example>")

    message = message_of(content)

    assert message["Subject"] == f"Booking {booking} confirmed"
    assert message["From"].addresses[0].display_name == "Caf\u00e9"
    assert all(booking in text for text in parts(content).values())
    assert content.isascii()


def test_html_is_escaped_and_text_is_not() -> None:
    booking = "<script>alert('&')</script>"

    said = parts(composed(a_confirmation(booking_reference=booking)))

    assert booking in said["text/plain"]
    assert "<script>" not in said["text/html"]
    assert "&lt;script&gt;alert(&#39;&amp;&#39;)" in said["text/html"]


def test_what_is_filled_in_is_no_template() -> None:
    said = parts(composed(a_confirmation(booking_reference="{{ currency }}{% raw %}")))

    assert all("{{ currency }}{% raw %}" in text for text in said.values())


#: Each begins a header of its own where a library folds, decodes or trusts too much.
INJECTIONS = [
    "BK\r\nBcc: eve@example.com",
    "BK\nBcc: eve@example.com",
    "BK\rBcc: eve@example.com",
    "BK\x0bBcc: eve@example.com",
    "BK\x85Bcc: eve@example.com",
    "BK\u2028Bcc: eve@example.com",
    "BK\r\n\r\nanother body",
    "=?utf-8?q?BK=0D=0ABcc:_eve=40example.com?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLmNvbQ==?=",
    "=?utf-8?q?=0A?= " * 4,
    "x" * 80,
    "x " * 40,
    "\u00e9" * 80,
    "\x00\x1b[31m",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_that_is_filled_in_begins_a_header(text: str) -> None:
    content = composed(a_confirmation(booking_reference=text, merchant_reference=text))

    assert sorted(raw_headers(content)) == sorted(HEADERS)
    assert sorted(message_of(content).keys()) == sorted(HEADERS)
    assert [part.get_content_type() for part in message_of(content).iter_parts()] == [
        "text/plain",
        "text/html",
    ]


@settings(deadline=None)  # the first one compiles the templates
@given(booking=st.text(max_size=100), reference=st.text(max_size=100))
def test_whatever_is_filled_in_is_content_or_is_not_sent(booking: str, reference: str) -> None:
    command = a_confirmation(booking_reference=booking, merchant_reference=reference)
    try:
        content = composed(command)
    except Unsendable:
        return

    assert sorted(raw_headers(content)) == sorted(HEADERS)
    assert content.isascii()
    assert content.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)
    assert max(map(len, content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "address",
    [
        "",
        "shopper",
        "a@b@c",
        "a,b@example.com",
        "a@b.example, eve@example.com",
        "a@b.example\r\nBcc: eve@example.com",
        "S <a@b.example>",
        '"a b"@example.com',
        "a@[127.0.0.1]",
        "\u00e9@example.com",
        "a@\u00e9.example",
        "a@b.example>",
        f"{'a' * 250}@b.example",
    ],
)
def test_what_is_not_one_plain_address_gets_no_mail(address: str) -> None:
    with pytest.raises(Unsendable, match="recipient"):
        composed(a_confirmation(to=address))


def test_an_encoded_word_in_an_address_stays_a_word() -> None:
    content = composed(a_confirmation(to="=?utf-8?q?=0ABcc?=@example.com"))

    assert b"\r\nTo: =?utf-8?q?=0ABcc?=@example.com\r\n" in content


@pytest.mark.parametrize("template", ["refund", "", "../confirmation", "confirmation.txt"])
def test_a_template_that_is_not_there_is_rejected(template: str) -> None:
    with pytest.raises(GatewayRejected, match="no such mail template"):
        composed(a_confirmation(template=template))


def test_a_command_that_lacks_what_its_template_needs_is_rejected() -> None:
    command = a_confirmation()
    data = {name: value for name, value in command.data.items() if name != "booking_reference"}

    with pytest.raises(GatewayRejected, match="UndefinedError"):
        composed(replace(command, data=data))


def test_the_shoppers_details_are_those_of_the_payment() -> None:
    assert a_confirmation().data["to"] == DETAILS["shopper"]["email"]
