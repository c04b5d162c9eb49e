"""CPU time by kind of process: on a busy machine it tells more than the time on the clock."""

import os
from collections.abc import Mapping
from contextlib import suppress

import psutil

Seconds = Mapping[str, float]


class Meter:
    """Adds up what requests of one kind cost."""

    def __init__(self, roots: Mapping[str, int], *, own: str) -> None:
        """Measure processes.

        Args:
            roots: The first process of each kind, by its id; with it counts all that it started.
            own: What kind this process is.
        """
        self._roots = roots
        self._own = own
        self._seconds = dict.fromkeys([*roots, own], 0.0)
        self._requests = 0

    def spent(self) -> Seconds:
        """Return what each kind has spent so far."""
        own = psutil.Process(os.getpid()).cpu_times()
        trees = {kind: _tree_seconds(psutil.Process(pid)) for kind, pid in self._roots.items()}
        return {**trees, self._own: own.user + own.system}

    def add(self, requests: int, *, since: Seconds) -> None:
        """Count requests, at the cost of what was spent since ``spent`` was asked."""
        self._requests += requests
        for kind, seconds in self.spent().items():
            self._seconds[kind] += seconds - since[kind]

    @property
    def microseconds(self) -> dict[str, float]:
        """What one request cost, by kind of process."""
        return {kind: 1e6 * seconds / self._requests for kind, seconds in self._seconds.items()}


def _tree_seconds(root: psutil.Process) -> float:
    """Sum a tree; ``children_*`` are those of its processes that have ended already."""
    seconds = 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
