"""What may happen to a worker, under real processes: F21, F22, F23, F26, F38.

Goal: promises 3 and 4 of the README hold while workers die, sleep and are told to stop at the worst
moment. Method: a worker is armed to die or to dawdle at a named place; then another one, which is
not, takes over, and the simulator's own books tell what took effect.
"""

import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import httpx2
import pytest

from app.bootstrap import new_id
from app.services.start_payment import start_payment
from reconciliation.verification import verify
from tests.support.builders import a_start, a_webhook, an_item
from tests.support.instance import eventually
from tests.support.processes import Fleet, Process
from tests.support.simulator import Simulator, a_simulator

_numbers = count(1)

LEASE = {
    "COUNTERSIGN_LEASE_SECONDS": "5",
    "COUNTERSIGN_FRAUD_TIMEOUT_SECONDS": "2",
    "COUNTERSIGN_SMTP_TIMEOUT_SECONDS": "2",
}


@dataclass
class Scene:
    """One payment, the workers that a test starts one after the other, and the outside."""

    fleet: Fleet
    simulator: Simulator
    reference: str
    payment_id: UUID
    workers: list[Process] = field(default_factory=list)

    def worker(self, failpoint: str = "") -> Process:
        """Start a worker, armed or not."""
        environment = {**self.simulator.environment, **LEASE, "COUNTERSIGN_FAILPOINTS": failpoint}
        worker = self.fleet.another("worker", **environment)
        self.workers.append(worker)
        worker.start()
        return worker

    def state(self) -> str:
        [(state,)] = self.fleet.ask(
            "SELECT state FROM payments WHERE payment_id = %(id)s", id=self.payment_id
        )
        return str(state)

    def saga(self) -> tuple[Any, ...]:
        """Return the owner, the lease, whether it is due, and the step."""
        [row] = self.fleet.ask(
            "SELECT owner, lease_until, due <= now(), current_step FROM saga_instances"
            " WHERE payment_id = %(id)s",
            id=self.payment_id,
        )
        return row

    def status(self, step: str) -> str | None:
        found = self.fleet.ask(
            "SELECT s.status FROM saga_steps s JOIN saga_instances USING (saga_id)"
            " WHERE payment_id = %(id)s AND step = %(step)s AND direction = 'act'",
            id=self.payment_id,
            step=step,
        )
        return str(found[0][0]) if found else None

    def answers(self, step: str) -> int:
        """Count the answers to a step on the payment's timeline."""
        [(number,)] = self.fleet.ask(
            "SELECT count(*) FROM payment_events WHERE payment_id = %(id)s"
            " AND kind = 'step_answered' AND data->>'step' = %(step)s",
            id=self.payment_id,
            step=step,
        )
        return int(number)

    def authorisations(self) -> int:
        books = self.simulator.books()["payments"]
        mine = [one for one in books if one["merchant_reference"] == self.reference]
        return sum(one["authorisations"] for one in mine)

    def tell_of_the_authorisation(self) -> None:
        """Send the PSP's webhook."""
        item = an_item(psp_reference=f"PSP{self.reference}", merchant_reference=self.reference)
        port = self.fleet.ports[0]
        answer = httpx2.post(
            f"http://127.0.0.1:{port}/webhooks/adyen", content=a_webhook(item), timeout=60
        )
        assert answer.status_code == 200

    def await_fin(self) -> None:
        eventually(lambda: self.state() == "fin", within_seconds=60)

    def assert_all_happened_once(self) -> None:
        books = self.simulator.books()
        bookings = [one for one in books["bookings"] if one["payment_id"] == str(self.payment_id)]
        mails = {
            one["message_id"] for one in books["mails"] if str(self.payment_id) in one["message_id"]
        }
        assert self.authorisations() == 1
        assert [(one["confirmations"], one["cancellations"]) for one in bookings] == [(1, 0)]
        assert len(mails) == 1
        with closing(self.fleet.container()) as container, container.engine.connect() as connection:
            assert verify(connection).discrepancies == []


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with a_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
def scene(fleet: Fleet, simulator: Simulator) -> Iterator[Scene]:
    """A payment that was started, and no worker; those that a test starts end with it."""
    fleet.worker.kill_9()
    reference = f"WORKERS-{next(_numbers)}"
    with closing(fleet.container()) as container:
        started = start_payment(
            a_start(key=reference, merchant_reference=reference),
            answer_now=None,
            unit_of_work=container.unit_of_work,
            clock=container.clock,
            new_id=new_id,
        )
    assert started.payment is not None
    scene = Scene(fleet, simulator, reference, started.payment.payment_id)
    yield scene
    for worker in scene.workers:
        worker.kill_9()


@pytest.mark.parametrize("name", ["saga.before_effect", "saga.after_effect"])
def test_kill_9_around_a_call_repeats_it_and_nothing_happens_twice(scene: Scene, name: str) -> None:
    """F21, F22: twice in a row, and then a worker lives."""
    for _death in range(2):
        assert scene.worker(f"{name}=kill").wait() == -signal.SIGKILL
        assert (scene.state(), scene.status("fraud_check")) == ("fraud_check", "asked")
        assert scene.answers("fraud_check") == 0

    scene.worker()
    eventually(lambda: scene.status("preauth") == "waiting", within_seconds=60)
    scene.tell_of_the_authorisation()
    scene.await_fin()

    scene.assert_all_happened_once()


def test_kill_9_after_every_single_commit_still_comes_to_fin(scene: Scene) -> None:
    """F23: each worker brings it one commit further."""
    for step in ("fraud_check", "preauth", "booking_confirmation", "email"):
        if step == "booking_confirmation":
            scene.tell_of_the_authorisation()
        assert scene.worker("saga.after_commit=kill").wait() == -signal.SIGKILL
        assert scene.status(step) in {"done", "waiting"}

    assert scene.state() == "fin"
    scene.assert_all_happened_once()


def test_a_worker_that_was_stopped_past_its_lease_writes_nothing_but_evidence_when_it_goes_on(
    scene: Scene,
) -> None:
    """F26."""
    sleeper = scene.worker("saga.after_effect=sleep:3")
    eventually(scene.authorisations, within_seconds=60)
    sleeper.send(signal.SIGSTOP)
    before = scene.status("preauth")

    scene.worker()
    eventually(lambda: scene.status("preauth") == "waiting", within_seconds=60)
    scene.tell_of_the_authorisation()
    scene.await_fin()
    sleeper.send(signal.SIGCONT)
    eventually(lambda: scene.answers("preauth") == 2, within_seconds=60)

    assert before == "asked"
    assert sleeper.is_running
    assert scene.state() == "fin"
    scene.assert_all_happened_once()


def test_a_worker_that_is_told_to_stop_ends_its_calls_and_leaves_the_rest_to_the_next_at_once(
    scene: Scene,
) -> None:
    """F38."""
    stopped = scene.worker("saga.after_effect=sleep:1")
    eventually(lambda: scene.status("fraud_check") == "asked", within_seconds=60)
    stopped.send(signal.SIGTERM)
    ended_with = stopped.wait()
    saga, answers = scene.saga(), scene.answers("fraud_check")

    scene.worker()
    eventually(lambda: scene.status("preauth") == "waiting", within_seconds=60)
    scene.tell_of_the_authorisation()
    scene.await_fin()

    assert (ended_with, answers) == (0, 1)
    assert saga == (None, None, True, "preauth")
    assert scene.answers("fraud_check") == 1
    scene.assert_all_happened_once()
