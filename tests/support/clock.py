"""A clock that tests set."""

from dataclasses import dataclass
from datetime import datetime


@dataclass
class FixedClock:
    """Stands still until it is set."""

    at: datetime

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.at
