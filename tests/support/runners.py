"""Saga runners as a worker process runs them: calls in threads, side by side."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.domain.saga import Command, Reply
from app.sagas.runner import SagaRunner
from tests.support.service import Service

#: Far longer than anything takes that works.
PATIENCE_SECONDS = 60.0


@contextmanager
def running(runner: SagaRunner) -> Iterator[Callable[[], None]]:
    """Run due sagas in a thread of its own while the block runs; what is given stops it early."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=runner.run_until, args=(stopping,), kwargs={"stop_seconds": PATIENCE_SECONDS}
    )

    def stop() -> None:
        stopping.set()
        runner.wake()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()

    thread.start()
    try:
        yield stop
    finally:
        stop()


def run_all(service: Service) -> None:
    """Run what is due, in this thread."""
    while service.container.runner.run_next():
        pass


@dataclass
class Held:
    """A participant whose calls wait, once they are under way, until they are let go.

    Attributes:
        has_begun: Set by the first call.
        may_end: Lets every call end.
    """

    handle_: Callable[[Command], Reply]
    has_begun: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def handle(self, command: Command) -> Reply:
        reply = self.handle_(command)
        self.has_begun.set()
        assert self.may_end.wait(PATIENCE_SECONDS)
        return reply
