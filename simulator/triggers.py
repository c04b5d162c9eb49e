"""The words in a holder name that ask for trouble, as one table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Reply(StrEnum):
    """When the HTTP request is answered."""

    AT_ONCE = "at_once"
    AFTER_WEBHOOK = "after_webhook"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the PSP treats one payment; the defaults are a payment without trouble.

    Attributes:
        is_declined: The authorisation is refused.
        true_after_seconds: A refused authorisation succeeds after all, so much later.
        webhook_delays: One delivery of the AUTHORISATION webhook each, in seconds from now.
        is_late: Every delivery waits the configured lateness first.
        reply: When the HTTP request is answered.
        outages: So many requests per idempotency key are answered 503 before any effect.
        capture_fails_after_seconds: A successful capture is undone so much later.
        is_cancel_refused: Cancels and reversals are refused for good.
    """

    is_declined: bool = False
    true_after_seconds: float | None = None
    webhook_delays: tuple[float, ...] = (0.0,)
    is_late: bool = False
    reply: Reply = Reply.AT_ONCE
    outages: int = 0
    capture_fails_after_seconds: float | None = None
    is_cancel_refused: bool = False

    def delays(self, late_seconds: float) -> tuple[float, ...]:
        """Return the seconds from now of each AUTHORISATION delivery; empty means lost."""
        lateness = late_seconds if self.is_late else 0.0
        return tuple(delay + lateness for delay in self.webhook_delays)


TRIGGERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # word in the name     what differs from a payment without trouble
        "DECLINED":            {"is_declined": True},
        "LOST WEBHOOK":        {"webhook_delays": ()},
        "LATE WEBHOOK":        {"is_late": True},
        "DUPLICATE WEBHOOK":   {"webhook_delays": (0.0, 0.0, 0.0, 1.0, 3.0)},
        "FALSE THEN TRUE":     {"is_declined": True, "true_after_seconds": 2.0},
        "PSP TIMEOUT":         {"reply": Reply.NEVER},
        "PSP DOWN":            {"outages": 3},
        "EARLY WEBHOOK":       {"reply": Reply.AFTER_WEBHOOK},
        "CAPTURE FAILED":      {"capture_fails_after_seconds": 1.0},
        "CANCEL FAILED":       {"is_cancel_refused": True},
    }
)  # fmt: skip
"""Delays that separate two events are whole seconds: the PSP's event dates have no fractions."""


def behaviour_of(holder_name: str) -> Behaviour:
    """Return what the words in ``holder_name`` ask for; several words add up."""
    behaviour = Behaviour()
    for word, differences in TRIGGERS.items():
        if word in holder_name.upper():
            behaviour = replace(behaviour, **differences)
    return behaviour
