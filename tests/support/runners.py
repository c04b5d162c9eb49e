"""Saga runners as a worker process runs them: calls in threads, side by side."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.bootstrap import new_id
from app.domain.saga import Command, Reply
from app.errors import GatewayError
from app.sagas.moving import Called, Turn
from app.sagas.orchestrator import Orchestrator
from app.sagas.runner import SagaRunner
from tests.support.service import Service

#: Far longer than anything takes that works.
PATIENCE_SECONDS = 60.0


@contextmanager
def running(runner: SagaRunner) -> Iterator[Callable[[], None]]:
    """Run due sagas in a thread of its own while the block runs; what is given tells it to stop."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=runner.run_until, args=(stopping,), kwargs={"stop_seconds": PATIENCE_SECONDS}
    )

    def tell_to_stop() -> None:
        stopping.set()
        runner.wake()

    thread.start()
    try:
        yield tell_to_stop
    finally:
        tell_to_stop()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


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


@dataclass
class Recorder:
    """A participant that remembers the commands that it was given."""

    handle_: Callable[[Command], Reply]
    commands: list[Command] = field(default_factory=list)

    def handle(self, command: Command) -> Reply:
        self.commands.append(command)
        return self.handle_(command)


def orchestrator(service: Service, *, owner: str = "a worker") -> Orchestrator:
    """An orchestrator of its own, as in another worker; nothing is left to chance."""
    container = service.container
    return Orchestrator(
        container.definitions,
        services=service.outside.participants().keys(),
        batch=container.batch,
        clock=service.clock,
        new_id=new_id,
        owner=owner,
        lease_seconds=service.lease_seconds,
        draw=lambda: 0.5,
    )


def call(service: Service, turn: Turn) -> Called:
    """Make the calls of a turn."""
    participants = service.outside.participants()

    def ask(command: Command) -> Reply | GatewayError:
        try:
            return participants[command.service_id].handle(command)
        except GatewayError as error:
            return error

    return Called(turn=turn, replies=tuple(ask(call.command) for call in turn.calls))
