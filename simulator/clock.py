"""The only reader of the wall clock in this package."""

import time
from datetime import UTC, datetime, timedelta, timezone

#: The PSP writes its event dates with the offset of its home, not in UTC.
PSP_ZONE = timezone(timedelta(hours=1))


def now() -> float:
    """Return the current time in seconds since the epoch."""
    return time.time()  # noqa: TID251 - the product's clock is not for the simulator


def event_date(at: float) -> str:
    """Return ``at`` the way the PSP writes dates: whole seconds and a non-zero offset."""
    return datetime.fromtimestamp(at, PSP_ZONE).isoformat(timespec="seconds")


def utc_text(at: float) -> str:
    """Return ``at`` in UTC with milliseconds, as the books show it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
