"""Webhooks that are signed as a whole: platform, balance, management, tokens (psp-webhooks.md 3).

The signature in the header covers the raw body, so that it is verified before anything is read, and
the body's hash is its identity: every byte of it is signed.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import orjson

from app.errors import InvalidSignature, MalformedNotification
from webhooks import notifications
from webhooks.guid import guid_of_body
from webhooks.notifications import Json, Notification

_IS_STANDARD = "notificationItems"

#: Where these families name the account that they are about.
_ACCOUNT_FIELDS = ("merchantAccount", "merchantAccountCode")


def parse(body: bytes, signers: Collection[str]) -> list[Notification]:
    """Read a body that was signed with a key of each of ``signers``.

    Most bodies are one event with a ``type``. A standard webhook that was signed this way is read
    as one; each of its items must be of an account that signed.

    Raises:
        MalformedNotification: Not JSON, or neither shape.
        InvalidSignature: An item is of an account whose key did not sign.
    """
    event = _read(body)
    if _IS_STANDARD not in event:
        return [_event(body, event, signers)]
    items = notifications.parse(body)
    if not all(item.merchant_account in signers for item in items):
        raise InvalidSignature("an item is of an account whose key did not sign the body")
    return items


def find(body: bytes, guid: UUID, merchant_account: str) -> Notification:
    """Return what a stored body says under this GUID, of an account that was found to sign it.

    Raises:
        MalformedNotification: It says nothing of the kind.
    """
    event = _read(body)
    if _IS_STANDARD in event:
        return notifications.find(body, guid)
    return _event(body, event, [merchant_account])


def _read(body: bytes) -> Json:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedNotification("the body is not JSON") from None
    if not isinstance(event, dict):
        raise MalformedNotification("the body is not a JSON object")
    return event


def _event(body: bytes, event: Json, signers: Collection[str]) -> Notification:
    kind = event.get("type")
    if not isinstance(kind, str) or not kind or "\x00" in kind:
        raise MalformedNotification("type is missing")
    data = event.get("data")
    data = data if isinstance(data, Mapping) else {}
    named = next((one for name in _ACCOUNT_FIELDS if (one := data.get(name)) in signers), None)
    return Notification(
        guid=guid_of_body(sha256(body).digest()),
        is_live=event.get("environment") == "live",
        merchant_account=str(named) if named else next(iter(signers)),
        event_code=kind,
        success=True,
        psp_reference=_text(event.get("eventId")) or _text(data.get("id")),
        original_reference="",
        merchant_reference=_text(data.get("reference")),
        event_date=_date(event.get("createdAt") or event.get("timestamp")),
        signature=None,
        signed_values=("",) * 8,
        item=event,
    )


def _text(value: object) -> str:
    return value.replace("\x00", "") if isinstance(value, str) else ""


def _date(value: object) -> datetime | None:
    try:
        date = datetime.fromisoformat(str(value))
        return date.astimezone(UTC) if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
