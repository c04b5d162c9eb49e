"""Guards and breakers whose time and chance belong to the test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from prometheus_client import CollectorRegistry

from app.gateways.breaker import FAILURES_MAX, Breaker, LocalMarks, Marks, RedisMarks
from app.gateways.resilience import PAUSES_SECONDS, GatewayMetrics, Guard

#: Between two probes.
PAUSE_SECONDS = 5.0


@dataclass
class Timer:
    """A monotonic clock that only a sleep, or the test, moves."""

    at: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


def a_breaker(
    *,
    shared: Marks | None = None,
    now: Callable[[], float] = monotonic,
    pause_seconds: float = PAUSE_SECONDS,
) -> Breaker:
    """A breaker of its own, unless its marks are shared."""
    local = LocalMarks(now)
    return Breaker("peer", shared=shared or local, local=local, pause_seconds=pause_seconds)


def open_breaker(breaker: Breaker) -> None:
    """Let the dependency fail until its breaker is open."""
    for _failure in range(FAILURES_MAX):
        breaker.failed()


def a_process_opens(redis_url: str) -> None:
    """Open the breaker; for a process of its own."""
    open_breaker(a_breaker(shared=RedisMarks(redis_url)))


def a_process_asks(redis_url: str) -> bool:
    """Ask the breaker for leave; for a process of its own."""
    return a_breaker(shared=RedisMarks(redis_url)).admits()


def a_guard(
    *,
    timeout_seconds: float = 1.0,
    calls_max: int = 8,
    breaker: Breaker | None = None,
    registry: CollectorRegistry | None = None,
    pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    now: Callable[[], float] = monotonic,
    sleep: Callable[[float], None] = lambda _seconds: None,
) -> Guard:
    """A guard that always draws the longest pause, and does not wait for it."""
    return Guard(
        "peer",
        timeout_seconds=timeout_seconds,
        calls_max=calls_max,
        breaker=breaker or a_breaker(),
        metrics=GatewayMetrics(registry or CollectorRegistry()),
        pauses_seconds=pauses_seconds,
        now=now,
        sleep=sleep,
        jitter=lambda bound: bound,
    )
