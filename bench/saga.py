"""Saga steps and whole payments a second with instant peers, against a claim-update-commit loop.

A step is a call with its intent, its command and its response on disk. A whole payment takes five
of them and a webhook: it is stored by the inbox, drained, and decides the authorisation.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter, sleep

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import text

from app.bootstrap import Container, new_id
from app.domain.saga import Command, Reply
from app.sagas.runner import SagaRunner
from app.services.ports import Participants
from app.services.start_payment import start_payment
from app.worker import Loop
from bench.support import report, stage, traffic
from tests.support.builders import a_start
from tests.support.fakes import FakeOutside
from webhooks.inbox import Verified
from webhooks.notifications import parse

PAYMENTS = 400
LOOPS = 600
STEPS_BEFORE_THE_WEBHOOK = 3
WAIT_SECONDS = 60

AUTHORISED = "saga_steps WHERE step = 'preauth' AND status = 'waiting'"
FINISHED = "payments WHERE state = 'fin'"

_CLAIM = text(
    """
    UPDATE claims SET version = version + 1
     WHERE id = (SELECT id FROM claims WHERE due <= now() ORDER BY due
                 FOR UPDATE SKIP LOCKED LIMIT 1)
    RETURNING id
    """
)
_RESULT = text("UPDATE claims SET due = now() WHERE id = :id")


class InstantPsp:
    """Answers at once; the webhooks of what it authorised gather."""

    def __init__(self) -> None:
        """Nothing is authorised yet."""
        self.webhooks: SimpleQueue[bytes] = SimpleQueue()

    def handle(self, command: Command) -> Reply:
        """Authorise; see ``Participant``."""
        reference = new_id().hex.upper()
        self.webhooks.put(
            traffic.body(
                psp_reference=reference,
                merchant_reference=str(command.data["merchant_reference"]),
            )
        )
        return Reply(success=True, data={"psp_reference": reference, "result": "Authorised"})


def main() -> None:
    given = report.arguments(__doc__)
    psp = InstantPsp()
    with stage.service() as service:
        container = replace(service.container, outside=_participants(psp))
        service.execute(
            "CREATE TABLE claims AS SELECT id, 0 AS version, now() AS due"
            " FROM generate_series(1, 1000) id"
        )
        report.compare(
            "saga steps / claim-update-commit",
            given,
            lambda: _steps(service, container, psp),
            lambda: _bare(container),
            target=">= 0.4",
        )
        report.compare(
            "payments from start to fin / claim-update-commit",
            given,
            lambda: _payments(service, container, psp),
            lambda: _bare(container),
            target="none",
        )


def _participants(psp: InstantPsp) -> Participants:
    return {**FakeOutside().participants(), "psp": psp}


def _steps(service: stage.Service, container: Container, psp: InstantPsp) -> float:
    """Run the steps that need no webhook: both fraud checks and the preauth."""
    before = service.count(AUTHORISED)
    _start(container)
    with _running(container.runner):
        begun_at = perf_counter()
        _await(service, "saga_instances WHERE status = 'running'", 0)
        seconds = perf_counter() - begun_at
    while not psp.webhooks.empty():
        psp.webhooks.get()
    service.require_stored(before + PAYMENTS, table=AUTHORISED)
    service.execute("UPDATE saga_instances SET due = now() + interval '1 day'")
    return STEPS_BEFORE_THE_WEBHOOK * PAYMENTS / seconds


def _payments(service: stage.Service, container: Container, psp: InstantPsp) -> float:
    """Run whole payments: the webhooks are stored and drained while the sagas run."""
    before = service.count(FINISHED)
    _start(container)
    with _running(container.runner), _draining(container):
        begun_at = perf_counter()
        for _payment in range(PAYMENTS):
            body = psp.webhooks.get(timeout=WAIT_SECONDS)
            container.inbox.store(body, [Verified(one, new_id()) for one in parse(body)])
        _await(service, FINISHED, before + PAYMENTS)
        return PAYMENTS / (perf_counter() - begun_at)


def _start(container: Container) -> None:
    for _ in range(PAYMENTS):
        reference = new_id().hex
        start_payment(
            a_start(key=reference, merchant_reference=reference),
            answer_now=None,
            unit_of_work=container.unit_of_work,
            clock=container.clock,
            new_id=new_id,
        )


@contextmanager
def _running(runner: SagaRunner) -> Iterator[None]:
    """Run sagas in a thread, as a worker does."""
    stopping = threading.Event()
    thread = threading.Thread(target=runner.run_until, args=(stopping,), kwargs={"stop_seconds": 5})
    thread.start()
    yield
    stopping.set()
    runner.wake()
    thread.join()


@contextmanager
def _draining(container: Container) -> Iterator[None]:
    """Drain in a thread, as a worker does."""
    stopping = threading.Event()
    drain = Loop(
        container.drain.run_next,
        then=container.runner.wake,
        poll_seconds=0.02,
        stopping=stopping,
    )
    thread = threading.Thread(target=drain.run)
    thread.start()
    yield
    stopping.set()
    thread.join()


def _await(service: stage.Service, table: str, number: int) -> None:
    for _look in range(100 * WAIT_SECONDS):
        if service.count(table) == number:
            return
        sleep(0.01)
    raise SystemExit(f"{table}: not {number} within {WAIT_SECONDS} s")


def _bare(container: Container) -> float:
    begun_at = perf_counter()
    for _ in range(LOOPS):
        with container.engine.begin() as connection:
            [claimed] = connection.execute(_CLAIM).scalars()
        with container.engine.begin() as connection:
            connection.execute(_RESULT, {"id": claimed})
    return LOOPS / (perf_counter() - begun_at)


if __name__ == "__main__":
    main()
