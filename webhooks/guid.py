"""The GUID of a webhook: its identity, and the key of its idempotency (product.md)."""

from collections.abc import Sequence
from hashlib import sha1
from uuid import UUID

#: Ours, fixed for ever: another one would make every stored webhook new again.
NAMESPACE = UUID("6f0c1c52-0f0e-5c3a-9d53-2f6a3f1d7c11")

PROVIDER = "adyen"
_SEPARATOR = "\x1f"

#: A regenerated report is announced under the same name, so its date tells the announcements apart.
_IDENTIFIED_BY_DATE = frozenset({"REPORT_AVAILABLE"})


def guid_of(*, live: str, signed_values: Sequence[str], event_code: str, event_date: str) -> UUID:
    """Return the UUIDv5 of everything about an item that is signed, and of where it comes from.

    An exact redelivery has the same GUID. Whatever differs in a signed value is a new fact:
    AUTHORISATION false and then true of one payment are two. ``event_date`` is unsigned and may
    change between redeliveries, so it does not count, except where it is the only difference.

    Args:
        live: ``true`` or ``false``, of the envelope.
        signed_values: The eight values in signing order.
        event_code: The item's event code.
        event_date: The item's event date as sent.
    """
    parts = [PROVIDER, live, *signed_values]
    if event_code in _IDENTIFIED_BY_DATE:
        parts.append(event_date)
    return _uuid5(_SEPARATOR.join(parts).encode())


def guid_of_body(digest: bytes) -> UUID:
    """Return the UUIDv5 of a webhook that is signed as a whole, by the SHA-256 of its body."""
    return _uuid5(f"{PROVIDER} platform{_SEPARATOR}".encode() + digest)


def _uuid5(name: bytes) -> UUID:
    """Do as ``uuid.uuid5`` in a third of its time: this runs for every webhook (RFC 9562, 5.5)."""
    digest = sha1(NAMESPACE.bytes + name, usedforsecurity=False).digest()
    return UUID(bytes=digest[:16], version=5)
