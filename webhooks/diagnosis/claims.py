"""What a webhook says that it is about, however broken it is. Nothing is concluded from it."""

import json
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from app.domain.card_numbers import mask_card_numbers
from webhooks.guid import guid_of_body
from webhooks.notifications import Notification

#: Long enough for every real code and reference, short enough for a list.
_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a webhook says it is about. Nothing is concluded from it.

    Attributes:
        merchant_account: None if the webhook names none.
        guid: Of the item, or of the body that is signed as a whole; None if it can't be read.
    """

    merchant_account: str | None = None
    event_code: str = ""
    psp_reference: str = ""
    guid: UUID | None = None

    @property
    def event(self) -> str:
        """The event code and the PSP reference, as far as they are there."""
        return f"{self.event_code} {self.psp_reference}".strip()


def read_json(body: bytes) -> object:
    """Return the JSON of a body, None if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def where_json_ends(body: bytes) -> str:
    """Say where a body stops being JSON; empty if it does not."""
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        return f" (line {error.lineno}, column {error.colno}: {error.msg})"
    except UnicodeDecodeError as error:
        return f" (byte {error.start} is not UTF-8)"
    except RecursionError:
        return " (it is nested too deeply)"
    except ValueError:
        return " (a number has too many digits)"
    return ""


def is_live_body(content: object) -> bool:
    """Read where a signed body comes from; the classic platform says it by a boolean."""
    if not isinstance(content, dict):
        return False
    return content.get("environment") == "live" or content.get("live") in (True, "true")


def claim_of_item(item: Notification) -> Claim:
    """Return what an item that can be read claims."""
    return Claim(
        merchant_account=_plain(item.merchant_account),
        event_code=_plain(item.event_code),
        psp_reference=_plain(item.psp_reference),
        guid=item.guid,
    )


def claim_of_first_item(content: object) -> Claim | None:
    """Return the claim of the first item of a webhook that can't be read; None if it has none."""
    items = _member(content, "notificationItems")
    first = items[0] if isinstance(items, list) and items else None
    item = _member(first, "NotificationRequestItem")
    if not isinstance(item, dict):
        return None
    return Claim(
        merchant_account=_plain(item.get("merchantAccountCode")) or None,
        event_code=_plain(item.get("eventCode")),
        psp_reference=_plain(item.get("pspReference")),
    )


def claim_of_body(body: bytes, content: object) -> Claim:
    """Return the claim of a webhook that is signed as a whole."""
    data = _member(content, "data")
    account = _member(data, "merchantAccount") or _member(data, "merchantAccountCode")
    return Claim(
        merchant_account=_plain(account) or None,
        event_code=_plain(_member(content, "type") or _member(content, "eventType")),
        psp_reference=mask_card_numbers(_plain(_member(content, "eventId") or _member(data, "id"))),
        guid=guid_of_body(sha256(body).digest()) if isinstance(content, dict) else None,
    )


def _member(value: object, member: str) -> object:
    return value.get(member) if isinstance(value, dict) else None


def _plain(value: object) -> str:
    """Return a text that can be stored and shown wherever it comes from; empty if it is none."""
    text = value[:_CHARACTERS_MAX] if isinstance(value, str) else ""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
