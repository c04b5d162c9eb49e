"""The only source of time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Everything that depends on the time takes one of these."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)  # noqa: TID251  # the one place that may


@dataclass
class FixedClock:
    """A clock that stands still until it is set, for tests."""

    at: datetime

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.at
