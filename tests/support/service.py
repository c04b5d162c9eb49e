"""The whole service on real stores, in the words that tests speak."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from time import sleep
from typing import Any, TypeVar
from uuid import UUID

from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from app.bootstrap import Container, new_id
from app.cli.reconcile import sweep_of
from app.domain.access import Role
from app.domain.payment import CaptureMode, Payment
from app.factory import create_app
from app.services.start_payment import StartPayment, start_payment
from reconciliation.sweep import Finding, Sweep
from reconciliation.verification import Discrepancy, verify
from tests.support.builders import ACCOUNT, a_start, a_webhook
from tests.support.clock import FixedClock
from tests.support.fakes import FakeOutside

#: More turns than any flow needs; a flow that needs more never comes to rest.
TURNS_MAX = 200

#: A hundredth of a second apart.
LOOKS_MAX = 3000

Row = Mapping[str, Any]
T = TypeVar("T")


class Crash(BaseException):  # the process is gone: no handler of ours sees it
    """What an armed failpoint raises in place of kill -9."""


def crash() -> None:
    """Die at a failpoint."""
    raise Crash


@dataclass
class Service:
    """A wired service with its fakes, its clock and its HTTP client."""

    container: Container
    outside: FakeOutside
    clock: FixedClock
    client: FlaskClient

    def start(
        self,
        command: StartPayment | None = None,
        *,
        capture: CaptureMode = CaptureMode.MANUAL,
        merchant_reference: str = "ORDER-1001",
    ) -> UUID:
        """Start a payment, without running anything; the key follows from the reference."""
        started = start_payment(
            command
            or a_start(
                key=f"key-{merchant_reference}",
                merchant_reference=merchant_reference,
                capture=capture,
            ),
            answer_now=None,
            unit_of_work=self.container.unit_of_work,
            clock=self.clock,
            new_id=new_id,
        )
        assert started.payment is not None
        return started.payment.payment_id

    @property
    def lease_seconds(self) -> int:
        """After so long a dead worker's saga is free."""
        return self.container.settings.lease_seconds

    def post_webhook(self, body: bytes, **headers: str) -> TestResponse:
        """Post a body from a client of its own, so that threads may call this."""
        client = self.client.application.test_client()
        return client.post("/webhooks/adyen", data=body, headers=headers)

    def deliver(self, *items: Mapping[str, object]) -> None:
        """Deliver signed items, each in a webhook of its own, and have them acknowledged."""
        for item in items:
            assert self.post_webhook(a_webhook(item)).status_code == 200

    def settle(self) -> None:
        """Drain and run until nothing is due at the clock's time."""
        for _turn in range(TURNS_MAX):
            if not (self.container.drain.run_next() or self.container.runner.run_next()):
                return
        raise AssertionError("the service does not come to rest")

    def drain(self) -> None:
        """Apply what is in the inbox and due; no saga runs."""
        for _turn in range(TURNS_MAX):
            if not self.container.drain.run_next():
                return
        raise AssertionError("the drain does not come to rest")

    def receive(self, *items: Mapping[str, object]) -> None:
        """Deliver, then settle."""
        self.deliver(*items)
        self.settle()

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        self.clock.at += timedelta(seconds=seconds)

    def later(self, seconds: float) -> None:
        """Move the clock on, then settle."""
        self.advance(seconds)
        self.settle()

    def payment(self, payment_id: UUID) -> Payment:
        """Load a payment."""
        with self.container.unit_of_work() as uow:
            return uow.payments.get(payment_id)

    def rows(self, sql: str, **values: object) -> list[Row]:
        """Ask the database."""
        with self.container.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql), values).mappings()]

    def count(self, table: str) -> int:
        """Count a table's rows."""
        [row] = self.rows(f"SELECT count(*) AS n FROM {table}")  # a test's own word
        return int(row["n"])

    def execute(self, sql: str, **values: object) -> None:
        """Change the database past the service."""
        with self.container.engine.begin() as connection:
            connection.execute(text(sql), values)

    def events(self, payment_id: UUID, kind: str) -> list[Row]:
        """Return the data of a payment's events of one kind, oldest first."""
        found = self.rows(
            "SELECT data FROM payment_events WHERE payment_id = :id AND kind = :kind ORDER BY seq",
            id=payment_id,
            kind=kind,
        )
        return [row["data"] for row in found]

    def path(self, payment_id: UUID) -> list[str]:
        """Return the states that a payment came through after its first."""
        return [str(data["to"]) for data in self.events(payment_id, "flow_moved")]

    def is_waiting_for_a_lock(self) -> bool:
        """Tell whether some transaction of this database waits for another one."""
        return bool(
            self.rows(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    def work(self) -> list[Row]:
        """Return the webhooks that are not done, in the order of their delivery."""
        return self.rows(
            "SELECT i.event_code, w.state, w.attempts, w.error FROM inbox_work w"
            " JOIN webhook_inbox i USING (guid) ORDER BY i.received_at, i.event_code"
        )

    def open_breaks(self) -> list[str]:
        """Return the kinds of the open breaks."""
        found = self.rows("SELECT kind FROM breaks WHERE state = 'open' ORDER BY opened_at")
        return [str(row["kind"]) for row in found]

    def discrepancies(self) -> list[Discrepancy]:
        """Run ``verify``."""
        with self.container.engine.connect() as connection:
            return verify(connection).discrepancies

    def sagas_without_a_future(self) -> list[Row]:
        """Return sagas that nothing will ever look at, although their payment does not rest."""
        return self.rows(
            "SELECT payment_id, s.status, p.state FROM saga_instances s"
            " JOIN payments p USING (payment_id)"
            " WHERE (s.due IS NULL) <> (p.state IN ('fin', 'declined', 'compensated',"
            " 'manual_review', 'external')) OR s.current_step <> p.state"
        )

    def sweep(self) -> Sweep:
        """Return a sweep over this service."""
        return sweep_of(self.container)

    def sweep_once(self, *, in_seconds: float = 0) -> list[Finding]:
        """Plan as seen from a later time, and carry it out."""
        as_of = self.clock.at + timedelta(seconds=in_seconds)
        sweep = self.sweep()
        findings = sweep.plan(as_of=as_of)
        sweep.carry_out(findings, as_of=as_of)
        return findings

    def restarted(self, **changes: object) -> "Service":
        """The service in a new process: nothing in memory is kept."""
        container = replace(
            self.container, settings=self.container.settings.model_copy(update=changes)
        )
        return replace(self, container=container, client=create_app(container).test_client())

    def api_key(self, role: Role = Role.MERCHANT, account: str = ACCOUNT) -> str:
        """Make an API key."""
        return self.container.accounts.create_api_key(account, role)


def poll(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, at most for a while."""
    for _look in range(LOOKS_MAX):
        if is_so():
            return
        sleep(0.01)
    raise AssertionError("it did not come to be so")


def at_once(acts: Iterable[Callable[[], T]]) -> list[T]:
    """Run every act in a thread of its own, all released by one barrier; return what they return.

    An act that raises fails the test.
    """
    todo = list(acts)
    barrier = threading.Barrier(len(todo))
    results: dict[int, T] = {}
    problems: list[BaseException] = []

    def run(place: int, act: Callable[[], T]) -> None:
        try:
            barrier.wait(30)
            results[place] = act()
        except BaseException as problem:  # noqa: BLE001  # told by the thread that waits
            problems.append(problem)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(todo)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if problems:
        raise problems[0]
    return [results[place] for place in range(len(todo))]
