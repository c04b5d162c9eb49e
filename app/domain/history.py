"""The hash chain over a payment's events: history can't be edited unseen.

Each event's hash covers the hash of the event before it, so that changing, removing or inserting a
line breaks every hash that follows. The payment's row keeps the newest hash, so that cutting off
the end shows as well.
"""

import hashlib
import json
from uuid import UUID

from app.domain.payment import PaymentEvent

GENESIS = bytes(32)
"""What the first event of a payment follows."""


def seal(previous: bytes, payment_id: UUID, seq: int, event: PaymentEvent) -> bytes:
    """Return the hash of an event that follows the event whose hash is ``previous``.

    Args:
        previous: 32 bytes; ``GENESIS`` for the first event.
        payment_id: Whose history it is.
        seq: The event's place in it, counted from 1.
        event: The event; its data must be JSON values.
    """
    line = json.dumps(
        [str(payment_id), seq, event.at.isoformat(), event.kind, event.cause, event.data],
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(previous + line.encode()).digest()
