"""CPU time by kind of process: on a busy machine it tells more than the time on the clock."""

import os
from collections.abc import Mapping
from contextlib import suppress

import psutil


def spent_seconds(roots: Mapping[str, int]) -> dict[str, float]:
    """Return what each process and all that it ever started have spent; and this one, ``load``.

    Args:
        roots: The first process of each kind, by its id.
    """
    own = psutil.Process(os.getpid()).cpu_times()
    return {
        **{kind: _tree_seconds(psutil.Process(pid)) for kind, pid in roots.items()},
        "load": own.user + own.system,
    }


def _tree_seconds(root: psutil.Process) -> float:
    """Sum a tree; ``children_*`` are those of its processes that have ended already."""
    seconds = 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
