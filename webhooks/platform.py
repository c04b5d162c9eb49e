"""Webhooks that are signed as a whole: platform, balance, management, tokens (psp-webhooks.md 3).

The signature in the header covers the raw body, so that it is verified before anything is read, and
the body's hash is its identity: every byte of it is signed.
"""

from collections.abc import Collection, Mapping
from hashlib import sha256
from uuid import UUID

from app.errors import InvalidSignature, MalformedNotification
from webhooks import notifications
from webhooks.guid import guid_of_body
from webhooks.notifications import VALUE_CHARACTERS_MAX, Json, Notification

_IS_STANDARD = "notificationItems"

#: Where these families name the account that they are about.
_ACCOUNT_FIELDS = ("merchantAccount", "merchantAccountCode")


def parse(body: bytes, signers: Collection[str]) -> list[Notification]:
    """Read a body that was signed with a key of each of ``signers``.

    Most bodies are one event with a ``type``, the classic ones with an ``eventType``. A standard
    webhook that was signed this way is read as one; each of its items must be of an account that
    signed.

    Raises:
        MalformedNotification: Not a JSON object, nothing that says what it is, or a broken
            standard webhook.
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
    event = notifications.read_json(body)
    if not isinstance(event, dict):
        raise MalformedNotification("the body is not a JSON object")
    return event


def _event(body: bytes, event: Json, signers: Collection[str]) -> Notification:
    """Read an event leniently: it is authentic, so that all it must say is what it is."""
    kind = _text(event, "type") or _text(event, "eventType")
    if not kind:
        raise MalformedNotification("neither type nor eventType says what it is")
    data = event.get("data")
    data = data if isinstance(data, Mapping) else {}
    named = (_text(data, name) for name in _ACCOUNT_FIELDS)
    return Notification(
        guid=guid_of_body(sha256(body).digest()),
        is_live=event.get("environment") == "live",
        merchant_account=next((one for one in named if one in signers), next(iter(signers))),
        event_code=kind,
        success=True,
        psp_reference=_text(event, "eventId") or _text(data, "id"),
        original_reference="",
        merchant_reference=_text(data, "reference"),
        event_date=notifications.read_date(
            _text(event, "createdAt") or _text(event, "timestamp") or _text(event, "eventDate")
        ),
        signature=None,
        signed_values=("",) * 8,
        item=event,
    )


def _text(values: Json, name: str) -> str:
    """Return a value that can be stored and indexed; empty if there is none."""
    value = values.get(name)
    if not isinstance(value, str):
        return ""
    return value[:VALUE_CHARACTERS_MAX].encode("utf-8", "replace").decode().replace("\x00", "")
