"""From bytes to notifications: the standard webhook's envelope and its items (psp-webhooks.md 1).

Lenient where the PSP is (unknown fields, absent optional ones, numbers as text), strict where an
error would change what is signed or could not be stored.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from app.domain.money import Money
from app.errors import MalformedNotification
from webhooks.guid import guid_of
from webhooks.signatures import signing_string

Json = Mapping[str, object]

_REQUIRED = ("pspReference", "merchantAccountCode", "eventCode", "success", "eventDate")

#: Signed values are joined by colons without escaping, so that a colon in one of these could move a
#: field boundary under a valid signature. Only merchantReference may hold one.
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]*")
_PLAIN_FIELDS = ("pspReference", "originalReference", "eventCode")

_TEST_REFERENCE = re.compile(r"test_|testnotification_", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One item of a standard webhook, not yet verified.

    Attributes:
        guid: See ``webhooks.guid``.
        psp_reference: Of the payment, the modification, the dispute or the report: the event code
            says which.
        original_reference: The payment's PSP reference, on modifications; empty if absent.
        amount: None if absent or no amount of money.
        event_date: When it happened, says the PSP; aware; None if it can't be read.
        signature: As sent; None if absent.
        signed_values: The eight values in signing order, as text.
        item: The item as sent, for storing.
    """

    guid: UUID
    is_live: bool
    merchant_account: str
    event_code: str
    success: bool
    psp_reference: str
    original_reference: str
    merchant_reference: str
    amount: Money | None
    event_date: datetime | None
    signature: str | None
    signed_values: tuple[str, ...]
    item: Json

    @property
    def is_test(self) -> bool:
        """True for the test notifications of the PSP's customer area: they never touch money."""
        return _TEST_REFERENCE.search(self.psp_reference) is not None

    @property
    def reason(self) -> str:
        """The item's reason; empty if absent. Unsigned."""
        return _text(self.item, "reason")

    def additional(self, name: str) -> str:
        """Return a value of additionalData; empty if absent. Unsigned."""
        data = self.item.get("additionalData")
        return _text(data, name) if isinstance(data, Mapping) else ""


def parse(body: bytes) -> list[Notification]:
    """Read a standard webhook.

    Raises:
        MalformedNotification: Not JSON, not the envelope, or an item without its required fields;
            the message names the field.
    """
    envelope = _read_json(body)
    if not isinstance(envelope, dict):
        raise MalformedNotification("the body is not a JSON object")
    items = envelope.get("notificationItems")
    if not isinstance(items, list) or not items:
        raise MalformedNotification("notificationItems is not a list of items")
    live = "true" if _text(envelope, "live") == "true" else "false"
    return [_unwrap(live, position, wrapped) for position, wrapped in enumerate(items)]


def parse_item(item: Json, *, live: bool) -> Notification:
    """Read one item: from an envelope, or from the inbox.

    Raises:
        MalformedNotification: See ``parse``.
    """
    return _notification("true" if live else "false", item, "the item")


def _unwrap(live: str, position: int, wrapped: object) -> Notification:
    where = f"notificationItems[{position}]"
    item = wrapped.get("NotificationRequestItem") if isinstance(wrapped, dict) else None
    if not isinstance(item, dict):
        raise MalformedNotification(f"{where}.NotificationRequestItem is not an object")
    return _notification(live, item, where)


def _notification(live: str, item: Json, where: str) -> Notification:
    for name in _REQUIRED:
        if not _text(item, name):
            raise MalformedNotification(f"{where}: {name} is missing")
    for name in _PLAIN_FIELDS:
        if not _PLAIN.fullmatch(_text(item, name)):
            raise MalformedNotification(f"{where}: {name} holds a character that it can't have")
    success = _text(item, "success")
    if success not in {"true", "false"}:
        raise MalformedNotification(f"{where}: success is neither true nor false")
    amount = item.get("amount")
    amount = amount if isinstance(amount, Mapping) else {}
    if not _PLAIN.fullmatch(_text(amount, "currency")):
        raise MalformedNotification(f"{where}: amount.currency holds a character it can't have")
    signed_values = (
        _text(item, "pspReference"),
        _text(item, "originalReference"),
        _text(item, "merchantAccountCode"),
        _text(item, "merchantReference"),
        _text(amount, "value"),
        _text(amount, "currency"),
        _text(item, "eventCode"),
        success,
    )
    event_date = _text(item, "eventDate")
    _require_storable((*signed_values, event_date), where)
    data = item.get("additionalData")
    signature = data.get("hmacSignature") if isinstance(data, Mapping) else None
    return Notification(
        guid=guid_of(
            live=live,
            signed_values=signed_values,
            event_code=signed_values[6],
            event_date=event_date,
        ),
        is_live=live == "true",
        merchant_account=signed_values[2],
        event_code=signed_values[6],
        success=success == "true",
        psp_reference=signed_values[0],
        original_reference=signed_values[1],
        merchant_reference=signed_values[3],
        amount=_money(signed_values[4], signed_values[5]),
        event_date=_date(event_date),
        signature=signature if isinstance(signature, str) else None,
        signed_values=signed_values,
        item=item,
    )


def _read_json(body: bytes) -> object:
    try:
        # Fractions stay text: no field that we read is one, and none becomes a float on the way.
        return json.loads(body, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedNotification("the body is not JSON") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _text(values: Json, name: str) -> str:
    """Return a value as the PSP signs it: absent and null are empty, booleans lower case."""
    match values.get(name):
        case None:
            return ""
        case bool() as flag:
            return "true" if flag else "false"
        case str() as text:
            return text
        case int() as number:
            return str(number)
        case _:
            raise MalformedNotification(f"{name} is not a plain value")


def _require_storable(values: tuple[str, ...], where: str) -> None:
    try:
        signing_string(values)
    except UnicodeEncodeError:
        raise MalformedNotification(f"{where}: a value is not Unicode text") from None
    if any("\x00" in value for value in values):
        raise MalformedNotification(f"{where}: a value holds a NUL character")


def _money(value: str, currency: str) -> Money | None:
    try:
        return Money(int(value), currency)
    except ValueError:
        return None


def _date(text: str) -> datetime | None:
    """Read an ISO 8601 date; one without an offset is UTC, one beyond the calendar is none."""
    try:
        date = datetime.fromisoformat(text)
        return date.astimezone(UTC) if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
