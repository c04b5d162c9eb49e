"""A circuit breaker that every process on every host shares through Redis.

Closed, it lets every call out. So many technical failures without one success among them open it,
and no call goes out. When the pause is over, one call of all processes goes out as the probe: a
success closes the breaker for all, anything else leaves it to the next pause.

The pause and the probe are one name that is set for a while: whoever sets it while it is absent is
the probe, and it lasts longer than any call. So there is never a second probe beside the first,
and nothing is left to tidy up after a process that died as the probe.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol, TypeVar

from redis import Redis

from app.redis_client import RedisAway, SparedRedis

#: So many failures in a row open the breaker. In a row, not a rate: one success proves that the
#: service works, so that a request that always fails among good ones does no harm to them.
FAILURES_MAX = 10

#: Failures further apart than this are not of one outage; an open breaker that nobody asks closes.
MEMORY_SECONDS = 60.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Marks(Protocol):
    """Names that are set for a while. Every method is atomic."""

    def is_set(self, name: str) -> bool:
        """Tell whether the name is set."""
        ...

    def claim(self, name: str, seconds: float) -> bool:
        """Set the name; False if it is set already."""
        ...

    def extend(self, name: str, seconds: float) -> bool:
        """Let the name be set for so long from now; False if it is not set."""
        ...

    def count(self, name: str, seconds: float) -> int:
        """Count one more, and return the count; it is forgotten so long after the first."""
        ...

    def clear(self, name: str, *others: str) -> bool:
        """Unset all of them, and tell whether the first was set."""
        ...


class RedisMarks:
    """Marks in Redis: plain commands, each atomic by itself. Thread-safe."""

    def __init__(self, redis_url: str, now: Callable[[], float] = monotonic) -> None:
        """Connect lazily; every method raises ``RedisAway`` while Redis is."""
        self._redis = SparedRedis(redis_url, now)

    def is_set(self, name: str) -> bool:
        """See ``Marks``."""
        return bool(self._redis.ask(lambda redis: redis.exists(name)))

    def claim(self, name: str, seconds: float) -> bool:
        """See ``Marks``."""
        milliseconds = _milliseconds(seconds)
        return bool(self._redis.ask(lambda redis: redis.set(name, 1, nx=True, px=milliseconds)))

    def extend(self, name: str, seconds: float) -> bool:
        """See ``Marks``."""
        return bool(self._redis.ask(lambda redis: redis.pexpire(name, _milliseconds(seconds))))

    def count(self, name: str, seconds: float) -> int:
        """See ``Marks``."""

        def count(redis: Redis) -> int:
            with redis.pipeline() as pipeline:
                pipeline.set(name, 0, nx=True, px=_milliseconds(seconds))
                pipeline.incr(name)
                return int(pipeline.execute()[-1])

        return self._redis.ask(count)

    def clear(self, name: str, *others: str) -> bool:
        """See ``Marks``."""

        def clear(redis: Redis) -> bool:
            with redis.pipeline() as pipeline:
                pipeline.delete(name)
                pipeline.delete(*others)
                return bool(pipeline.execute()[0])

        return self._redis.ask(clear)


class LocalMarks:
    """Marks of one process. Thread-safe."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Set nothing yet; ``now`` returns seconds from any start."""
        self._now = now
        self._lock = threading.Lock()
        self._marks: dict[str, tuple[int, float]] = {}

    def is_set(self, name: str) -> bool:
        """See ``Marks``."""
        with self._lock:
            return self._count_of(name) is not None

    def claim(self, name: str, seconds: float) -> bool:
        """See ``Marks``."""
        with self._lock:
            if self._count_of(name) is not None:
                return False
            self._marks[name] = (1, self._now() + seconds)
            return True

    def extend(self, name: str, seconds: float) -> bool:
        """See ``Marks``."""
        with self._lock:
            count = self._count_of(name)
            if count is None:
                return False
            self._marks[name] = (count, self._now() + seconds)
            return True

    def count(self, name: str, seconds: float) -> int:
        """See ``Marks``."""
        with self._lock:
            count = self._count_of(name) or 0
            ends_at = self._marks[name][1] if count else self._now() + seconds
            self._marks[name] = (count + 1, ends_at)
            return count + 1

    def clear(self, name: str, *others: str) -> bool:
        """See ``Marks``."""
        with self._lock:
            was_set = self._count_of(name) is not None
            for unset in (name, *others):
                self._marks.pop(unset, None)
            return was_set

    def _count_of(self, name: str) -> int | None:
        count, ends_at = self._marks.get(name, (0, 0.0))
        return count if count and self._now() < ends_at else None


class Breaker:
    """One dependency's breaker. Thread-safe."""

    def __init__(
        self, dependency: str, *, shared: Marks, local: Marks, pause_seconds: float
    ) -> None:
        """Watch a dependency.

        Args:
            dependency: Its name, the same in every process.
            shared: Where the state is; may raise ``RedisAway``.
            local: Where it is meanwhile: then every process has its own.
            pause_seconds: Between two probes; longer than any call.
        """
        self._dependency = dependency
        self._shared = shared
        self._local = local
        self._pause_seconds = pause_seconds
        self._open, self._pause, self._failures = (
            f"countersign:breaker:{dependency}:{what}" for what in ("open", "pause", "failures")
        )

    def admits(self) -> bool:
        """Tell whether a call may go out: the breaker is closed, or this call is the probe."""
        return self._on_marks(
            lambda marks: (
                not marks.is_set(self._open) or marks.claim(self._pause, self._pause_seconds)
            )
        )

    def succeeded(self) -> None:
        """Note that the service answered: all failures are forgotten."""
        names = (self._open, self._pause, self._failures)
        if self._on_marks(lambda marks: marks.clear(*names)):
            _log.warning("breaker closed", extra={"dependency": self._dependency})

    def failed(self) -> None:
        """Note that the service failed."""
        if self._on_marks(self._opens):
            _log.warning("breaker opened", extra={"dependency": self._dependency})

    def _opens(self, marks: Marks) -> bool:
        """Count a failure, and tell whether it opens the breaker: of all processes one is told."""
        memory_seconds = MEMORY_SECONDS + self._pause_seconds
        failures = marks.count(self._failures, MEMORY_SECONDS)
        if marks.extend(self._open, memory_seconds) or failures < FAILURES_MAX:
            return False
        marks.claim(self._pause, self._pause_seconds)
        return marks.claim(self._open, memory_seconds)

    def _on_marks(self, act: Callable[[Marks], T]) -> T:
        try:
            return act(self._shared)
        except RedisAway:
            return act(self._local)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
