"""Ages: in whole seconds for programs, in their largest unit for people."""

from datetime import datetime

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def age_seconds(since: datetime, now: datetime) -> int:
    """Return the whole seconds since then; 0 for a time to come, as another clock may have set."""
    return max(int((now - since).total_seconds()), 0)


def as_age(seconds: int) -> str:
    """Write an age in its largest unit: ``3 min``."""
    for size, name in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
