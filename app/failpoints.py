"""Named crash points: inert in production, armed by a test.

``hit("drain.after_commit")`` marks a place where a crash would be interesting. In-process tests arm
a callable. Tests with real processes arm them by ``COUNTERSIGN_FAILPOINTS`` (``name=kill`` or
``name=sleep:SECONDS``, comma-separated), which only the command line reads, once, at start.
"""

import os
import signal
import time
from collections.abc import Callable
from functools import partial

_armed: dict[str, Callable[[], None]] = {}


def hit(name: str) -> None:
    """Run whatever a test armed at ``name``; usually nothing."""
    action = _armed.get(name)
    if action is not None:
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Make ``hit(name)`` run ``action``, which may raise, block or kill the process."""
    _armed[name] = action


def disarm_all() -> None:
    """Forget every armed action."""
    _armed.clear()


def arm_from_text(text: str) -> None:
    """Arm ``name=kill`` and ``name=sleep:SECONDS`` entries; an unknown action is a ValueError."""
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, action = entry.partition("=")
        if action == "kill":
            arm(name, _kill_this_process)
        elif action.startswith("sleep:"):
            arm(name, partial(time.sleep, float(action.removeprefix("sleep:"))))
        else:
            raise ValueError(f"failpoint {name}: unknown action {action!r}")


def _kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
