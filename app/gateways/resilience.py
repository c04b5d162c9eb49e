"""Bulkhead, total deadline, retries and breaker: what stands before an outside service.

From the outside in: a call takes one of a bounded number of places, at once or not at all. Its
tries share one deadline. Each try needs the breaker's leave.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.domain.saga import Command, Reply
from app.errors import (
    GatewayError,
    GatewayInProgress,
    GatewayNotAsked,
    GatewayOverloaded,
    GatewayRejected,
)
from app.gateways.breaker import Breaker
from app.services.ports import Participant

#: Upper bounds of the pauses before the second and the third try of one call; each is drawn evenly
#: below its bound (full jitter). A longer wait is the saga's: it outlives the process.
PAUSES_SECONDS = (0.2, 0.8)

#: A try that fails so has done nothing at the service.
_WITHOUT_EFFECT = (GatewayRejected, GatewayNotAsked)

#: A service that answers so is well.
_WELL = (GatewayRejected, GatewayInProgress)

#: What another try at once would not change, or make worse.
_FINAL = (GatewayRejected, GatewayOverloaded)

T = TypeVar("T")


class GatewayMetrics:
    """What one process sees of the outside services, as Prometheus metrics. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics."""
        self.calls = Counter(
            "countersign_gateway_calls",
            "Calls by what they came to: answered, or the error's code.",
            ["dependency", "outcome"],
            registry=registry,
        )
        self.under_way = Gauge(
            "countersign_gateway_calls_under_way",
            "Calls that run now.",
            ["dependency"],
            registry=registry,
        )
        self.seconds = Histogram(
            "countersign_gateway_call_seconds",
            "How long calls took, all tries included.",
            ["dependency"],
            registry=registry,
        )
        self.retries = Counter(
            "countersign_gateway_retries",
            "Further tries within calls.",
            ["dependency"],
            registry=registry,
        )
        self.crowded_out = Counter(
            "countersign_gateway_crowded_out",
            "Calls that were not made because as many as may were running.",
            ["dependency"],
            registry=registry,
        )
        self.is_open = Gauge(
            "countersign_gateway_breaker_open",
            "1 if the breaker was open when this process last looked.",
            ["dependency"],
            registry=registry,
        )

    @contextmanager
    def call(self, dependency: str) -> Iterator[None]:
        """Time a call, and count what it comes to."""
        began = monotonic()
        try:
            with self.under_way.labels(dependency).track_inprogress():
                yield
        except GatewayError as error:
            self._called(dependency, error.code, began)
            raise
        self._called(dependency, "answered", began)

    def _called(self, dependency: str, outcome: str, began: float) -> None:
        self.calls.labels(dependency, outcome).inc()
        self.seconds.labels(dependency).observe(monotonic() - began)


class Guard:
    """Stands before one dependency. Thread-safe."""

    def __init__(
        self,
        dependency: str,
        *,
        timeout_seconds: float,
        calls_max: int,
        breaker: Breaker,
        metrics: GatewayMetrics,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
        now: Callable[[], float] = monotonic,
        sleep: Callable[[float], None] = sleep,
        jitter: Callable[[float], float] | None = None,
    ) -> None:
        """Guard a dependency.

        Args:
            dependency: What metrics and logs call it.
            timeout_seconds: Total time of one call, all tries and pauses included.
            calls_max: Calls at once; a further one is not made.
            breaker: Says whether a try may go out.
            metrics: Are told of every call.
            pauses_seconds: Bounds of the pauses between tries; none for calls whose repetition has
                an effect of its own.
            now: Seconds from any start.
            sleep: Waits so many seconds.
            jitter: Draws a wait below a bound; evenly distributed unless a test says otherwise.
        """
        self._dependency = dependency
        self._timeout_seconds = timeout_seconds
        self._places = threading.BoundedSemaphore(calls_max)
        self._breaker = breaker
        self._metrics = metrics
        self._pauses_seconds = pauses_seconds
        self._now = now
        self._sleep = sleep
        self._jitter = jitter or (lambda bound: random.uniform(0, bound))  # noqa: S311

    def call(self, ask: Callable[[float], T]) -> T:
        """Return what ``ask`` returns, which is given the seconds that are left for it.

        Raises:
            GatewayNotAsked: No request left: there was no place, or the breaker is open.
            GatewayRejected: No try of this call can have had an effect.
            GatewayError: What else ``ask`` raised; see ``_telling``.
        """
        with self._metrics.call(self._dependency), self._place():
            return self._ask(ask, self._now() + self._timeout_seconds)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            self._metrics.crowded_out.labels(self._dependency).inc()
            raise GatewayNotAsked(f"{self._dependency}: no more calls at once")
        try:
            yield
        finally:
            self._places.release()

    def _ask(self, ask: Callable[[float], T], ends_at: float) -> T:
        errors: list[GatewayError] = []
        while self._is_admitted():
            try:
                answer = ask(ends_at - self._now())
            except GatewayError as error:
                self._learn_from(error)
                errors.append(error)
            else:
                self._has_answered()
                return answer
            if not self._pauses_before_another(errors, ends_at):
                raise _telling(errors)
            self._metrics.retries.labels(self._dependency).inc()
        errors.append(GatewayNotAsked(f"{self._dependency}: left alone after many failures"))
        raise _telling(errors)

    def _is_admitted(self) -> bool:
        is_admitted = self._breaker.admits()
        if not is_admitted:
            self._metrics.is_open.labels(self._dependency).set(1)
        return is_admitted

    def _learn_from(self, error: GatewayError) -> None:
        if isinstance(error, _WELL):
            self._has_answered()
        else:
            self._breaker.failed()

    def _has_answered(self) -> None:
        self._breaker.succeeded()
        self._metrics.is_open.labels(self._dependency).set(0)

    def _pauses_before_another(self, errors: Sequence[GatewayError], ends_at: float) -> bool:
        """Wait a moment; False, at once, if there is no further try or no time for one."""
        if len(errors) > len(self._pauses_seconds) or isinstance(errors[-1], _FINAL):
            return False
        pause_seconds = self._jitter(self._pauses_seconds[len(errors) - 1])
        if self._now() + pause_seconds >= ends_at:
            return False
        self._sleep(pause_seconds)
        return True


class Guarded:
    """A participant behind its guard: one without HTTP, which keeps its own deadline."""

    def __init__(self, participant: Participant, guard: Guard) -> None:
        """Ask ``participant``."""
        self._participant = participant
        self._guard = guard

    def handle(self, command: Command) -> Reply:
        """Carry out a command; see ``Participant``."""
        return self._guard.call(lambda _seconds: self._participant.handle(command))


def _telling(errors: Sequence[GatewayError]) -> GatewayError:
    """Return the error that tells what is known of the call: of the tries with an effect the last.

    A refusal after such a try refuses the repetition only: the first may have worked.
    """
    perhaps = [error for error in errors if not isinstance(error, _WITHOUT_EFFECT)]
    return (perhaps or errors)[-1]
