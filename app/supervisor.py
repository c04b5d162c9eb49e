"""Child processes that live and die with this one."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from app.errors import CountersignError

#: Children may finish what they are doing for this long after SIGTERM.
STOP_SECONDS = 20.0
#: A child that dies is started again after this long, doubled at each death in a row, at most to
#: ...
FIRST_PAUSE_SECONDS = 0.25
#: ... this.
LONGEST_PAUSE_SECONDS = 10.0
#: A child that lived this long has had a good start: its next death is a first one.
GOOD_START_SECONDS = 30.0

_PR_SET_PDEATHSIG = 1


class ChildDied(CountersignError):
    """A process of the service ended before the service was ready."""

    code = "child_died"


@dataclass
class _Child:
    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    started_at: float
    pause_seconds: float = FIRST_PAUSE_SECONDS
    starts_again_at: float | None = None


@dataclass
class Supervisor:
    """Starts children, starts them again when they die, and stops them all.

    Attributes:
        say: Tells the person at the terminal what happens.
    """

    say: Callable[[str], None]
    _children: list[_Child] = field(default_factory=list)

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        """Start a child in a session of its own: Ctrl-C reaches us, and we stop it in turn."""
        process = _spawn(command, environment)
        self._children.append(_Child(name, command, environment, process, monotonic()))

    def check(self) -> None:
        """Look whether every child lives.

        Raises:
            ChildDied: One does not.
        """
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise ChildDied(f"{child.name} ended with {code}")

    def tend(self) -> None:
        """Start again what has died. Call it often."""
        for child in self._children:
            if child.starts_again_at is not None:
                if monotonic() >= child.starts_again_at:
                    child.process = _spawn(child.command, child.environment)
                    child.started_at = monotonic()
                    child.starts_again_at = None
                continue
            code = child.process.poll()
            if code is not None:
                self._plan_restart(child, code)

    def stop(self) -> None:
        """Stop all children, last started first, and wait until none is left."""
        for child in reversed(self._children):
            child.process.terminate()
        ends_at = monotonic() + STOP_SECONDS
        while any(child.process.poll() is None for child in self._children):
            if monotonic() > ends_at:
                break
            sleep(0.02)
        for child in self._children:
            _kill_session(child.process)
            child.process.wait()
        self._children.clear()

    def _plan_restart(self, child: _Child, code: int) -> None:
        _kill_session(child.process)
        if monotonic() - child.started_at > GOOD_START_SECONDS:
            child.pause_seconds = FIRST_PAUSE_SECONDS
        child.starts_again_at = monotonic() + child.pause_seconds
        child.pause_seconds = min(child.pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        self.say(f"{child.name} ended with {code}; starting it again")


def die_with_parent() -> dict[str, Any]:
    """Return arguments of ``Popen`` that let the child end when this process is killed.

    On Linux the kernel sends it SIGTERM; elsewhere it outlives a kill -9 of this process.
    """
    if sys.platform != "linux":
        return {"start_new_session": True}
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.getpid()

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != ours:  # it died before the kernel was asked
            os.kill(os.getpid(), signal.SIGTERM)

    return {"start_new_session": True, "preexec_fn": ask_kernel}


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what a child left behind: its own children share its session, and may hold its port."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _spawn(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # our own command
        command,
        env=dict(environment),
        cwd=Path.cwd(),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        **die_with_parent(),
    )
