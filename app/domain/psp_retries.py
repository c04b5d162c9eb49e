"""How the PSP retries a webhook that we did not acknowledge (psp-webhooks.md section 4).

Its queue is oldest first and blocking: what it retries holds up all that comes after it. The waits
grow; the last one repeats until the PSP gives up.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

#: Waits between one try and the next.
RETRY_GAPS = tuple(timedelta(minutes=wait) for wait in (2, 5, 10, 15, 30, 60, 120, 240, 480))

#: A webhook is retried for this long. It is signed when it is made: its last retry still carries
#: the signature of the key that was in use then.
RETRY_HORIZON = timedelta(days=30)

#: After so long without a try the PSP is not trying any more: longer than its longest wait.
SILENCE = RETRY_GAPS[-1] * 9 / 8

#: Deliveries closer together than this are no retries: the first wait is four times as long.
AT_ONCE = timedelta(seconds=30)

#: How far a real wait may be from the schedule's: this much, or this share of the wait.
TOLERANCE = timedelta(seconds=30)
TOLERANCE_SHARE = 0.2


def gaps_of(tries: Sequence[datetime]) -> list[timedelta]:
    """Return the waits between tries that are given oldest first."""
    return [after - before for before, after in pairwise(tries)]


def next_gap(elapsed: timedelta) -> timedelta:
    """Return how long the PSP waits after a try that came ``elapsed`` after the first one.

    The place in the schedule follows from the time, not from a count: tries that never reached us,
    or were not kept, do not shift it.
    """
    offset = timedelta()
    for gap in RETRY_GAPS:
        if elapsed < offset + gap / 2:
            return gap
        offset += gap
    return RETRY_GAPS[-1]


def scheduled(gap: timedelta) -> timedelta | None:
    """Return the wait of the schedule that ``gap`` is near to; None if it fits none."""
    nearest = min(RETRY_GAPS, key=lambda wait: abs(wait - gap))
    return nearest if abs(nearest - gap) <= max(TOLERANCE, nearest * TOLERANCE_SHARE) else None
