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

import orjson

from app.domain.money import Money
from app.errors import MalformedNotification
from webhooks.guid import guid_of

Json = Mapping[str, object]

#: JSON webhooks carry one item, the retired SOAP ones up to six (psp-webhooks.md section 1). Every
#: item keeps the whole body, so that there is a limit to what one body may multiply to.
ITEMS_MAX = 100

#: No reference of the PSP's is as long, and Postgres can index no text that is much longer.
VALUE_CHARACTERS_MAX = 500

_REQUIRED = ("pspReference", "merchantAccountCode", "eventCode", "success", "eventDate")

#: Signed values are joined by colons without escaping, so that a colon in one of these could move a
#: field boundary under a valid signature. Only merchantReference may hold one.
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]*")
_PLAIN_FIELDS = ("pspReference", "originalReference", "amount.currency", "eventCode")

_TEST_REFERENCE = re.compile(r"test_|testnotification_", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One item of a standard webhook, not yet verified.

    Attributes:
        guid: See ``webhooks.guid``.
        psp_reference: Of the payment, the modification, the dispute or the report: the event code
            says which.
        original_reference: The payment's PSP reference, on modifications; empty if absent.
        event_date: When it happened, says the PSP; aware; None if it can't be read.
        signature: As sent; None if absent.
        signed_values: The eight values in signing order, as text.
        item: The item as sent.
    """

    guid: UUID
    is_live: bool
    merchant_account: str
    event_code: str
    success: bool
    psp_reference: str
    original_reference: str
    merchant_reference: str
    event_date: datetime | None
    signature: str | None
    signed_values: tuple[str, ...]
    item: Json

    @property
    def amount(self) -> Money | None:
        """The amount; None if absent or no amount of money."""
        try:
            return Money(int(self.signed_values[4]), self.signed_values[5])
        except ValueError:
            return None

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
    try:
        return _notifications(orjson.loads(body))
    except (orjson.JSONDecodeError, MalformedNotification):
        return _notifications(_read_leniently(body))


def read_json(body: bytes) -> object:
    """Read JSON: fast and strict first, then as the PSP may still have signed it.

    Half a character in a field that nobody signs, or a number beyond 64 bits, is no reason to
    refuse what is authentic.

    Raises:
        MalformedNotification: Not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_leniently(body)


def find(body: bytes, guid: UUID) -> Notification:
    """Return the item of a stored webhook's body that has this GUID.

    Raises:
        MalformedNotification: There is none.
    """
    for notification in parse(body):
        if notification.guid == guid:
            return notification
    raise MalformedNotification("the body does not hold the item")


def _notifications(envelope: object) -> list[Notification]:
    if not isinstance(envelope, dict):
        raise MalformedNotification("the body is not a JSON object")
    items = envelope.get("notificationItems")
    if not isinstance(items, list) or not items:
        raise MalformedNotification("notificationItems is not a list of items")
    if len(items) > ITEMS_MAX:
        raise MalformedNotification(f"notificationItems holds more than {ITEMS_MAX} items")
    live = "true" if _text(envelope, "live") == "true" else "false"
    return [_unwrap(live, position, wrapped) for position, wrapped in enumerate(items)]


def _unwrap(live: str, position: int, wrapped: object) -> Notification:
    where = f"notificationItems[{position}]"
    item = wrapped.get("NotificationRequestItem") if isinstance(wrapped, dict) else None
    if not isinstance(item, dict):
        raise MalformedNotification(f"{where}.NotificationRequestItem is not an object")
    return _notification(live, item, where)


def _notification(live: str, item: Json, where: str) -> Notification:
    amount = item.get("amount")
    if not isinstance(amount, Mapping):
        amount = {}
    signed_values = (
        psp_reference := _text(item, "pspReference"),
        original_reference := _text(item, "originalReference"),
        merchant_account := _text(item, "merchantAccountCode"),
        merchant_reference := _text(item, "merchantReference"),
        _text(amount, "value"),
        currency := _text(amount, "currency"),
        event_code := _text(item, "eventCode"),
        success := _text(item, "success"),
    )
    event_date = _text(item, "eventDate")
    if not (psp_reference and merchant_account and event_code and success and event_date):
        missing = next(name for name in _REQUIRED if not _text(item, name))
        raise MalformedNotification(f"{where}: {missing} is missing")
    plain_values = (psp_reference, original_reference, currency, event_code)
    if not _PLAIN.fullmatch("".join(plain_values)):
        pairs = zip(_PLAIN_FIELDS, plain_values, strict=True)
        odd = next(name for name, value in pairs if not _PLAIN.fullmatch(value))
        raise MalformedNotification(f"{where}: {odd} holds a character that it can't have")
    if success not in {"true", "false"}:
        raise MalformedNotification(f"{where}: success is neither true nor false")
    _require_storable((*signed_values, event_date), where)
    data = item.get("additionalData")
    signature = data.get("hmacSignature") if isinstance(data, Mapping) else None
    return Notification(
        guid=guid_of(
            live=live, signed_values=signed_values, event_code=event_code, event_date=event_date
        ),
        is_live=live == "true",
        merchant_account=merchant_account,
        event_code=event_code,
        success=success == "true",
        psp_reference=psp_reference,
        original_reference=original_reference,
        merchant_reference=merchant_reference,
        event_date=read_date(event_date),
        signature=signature if isinstance(signature, str) else None,
        signed_values=signed_values,
        item=item,
    )


def _read_leniently(body: bytes) -> object:
    try:
        # Fractions stay text: no field that we read is one, and none becomes a float on the way.
        return json.loads(body, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedNotification("the body is not JSON") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _text(values: Json, name: str) -> str:
    """Return a value as the PSP signs it: absent and null are empty, booleans lower case."""
    value = values.get(name)
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise MalformedNotification(f"{name} is not a plain value")


def _require_storable(values: tuple[str, ...], where: str) -> None:
    text = "".join(values)
    if len(text) > VALUE_CHARACTERS_MAX and max(map(len, values)) > VALUE_CHARACTERS_MAX:
        raise MalformedNotification(
            f"{where}: a value has more than {VALUE_CHARACTERS_MAX} characters"
        )
    if text.isascii() and "\x00" not in text:
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedNotification(f"{where}: a value is not Unicode text") from None
    if "\x00" in text:
        raise MalformedNotification(f"{where}: a value holds a NUL character")


def read_date(text: str) -> datetime | None:
    """Read an ISO 8601 date; one without an offset is UTC, one beyond the calendar is none."""
    try:
        date = datetime.fromisoformat(text)
        return date.astimezone(UTC) if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
