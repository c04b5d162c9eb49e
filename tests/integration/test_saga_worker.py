"""The loop of a worker: calls side by side, outages in between, and an end in good order (F38).

The same under real processes is in tests/e2e/test_faults_of_workers.py.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.builders import an_item
from tests.support.outages import postgres_outage
from tests.support.runners import PATIENCE_SECONDS, Held, running
from tests.support.service import Row, Service, poll


@contextmanager
def holding(service: Service, service_id: str) -> Iterator[tuple[Service, Held]]:
    """The service in front of a party that answers when a test lets it."""
    participants = service.outside.participants()
    held = Held(participants[service_id].handle)
    container = replace(service.container, outside={**participants, service_id: held})
    yield replace(service, container=container), held
    held.may_end.set()
    container.close()


@pytest.fixture
def holding_psp(service: Service) -> Iterator[tuple[Service, Held]]:
    with holding(service, "psp") as pair:
        yield pair


@pytest.fixture
def slow(holding_psp: tuple[Service, Held]) -> Service:
    """The service in front of a slow PSP."""
    return holding_psp[0]


@pytest.fixture
def psp(holding_psp: tuple[Service, Held]) -> Held:
    """The PSP that answers when a test lets it."""
    return holding_psp[1]


def the_saga(service: Service) -> Row:
    [saga] = service.rows("SELECT * FROM saga_instances")
    return saga


def test_calls_of_many_payments_are_under_way_at_once(service: Service) -> None:
    number = 6
    together = threading.Barrier(number, timeout=PATIENCE_SECONDS)

    def meet() -> None:
        together.wait()

    service.outside.psp.before_answer = meet
    ids = [service.start(merchant_reference=f"ORDER-{one}") for one in range(number)]

    with running(service.container.runner):
        poll(lambda: all(service.payment(one).psp_reference for one in ids))

    assert not together.broken
    assert service.outside.psp.asked("authorise") == number


def test_a_call_that_hangs_holds_up_no_other_payment(slow: Service, psp: Held) -> None:
    """F37."""
    slow.start(merchant_reference="HANGS")
    with running(slow.container.runner):
        assert psp.has_begun.wait(PATIENCE_SECONDS)
        slow.outside.fraud.says_yes = False
        other = slow.start(merchant_reference="OTHER")
        poll(lambda: slow.payment(other).state == "declined")
        psp.may_end.set()


def test_a_webhook_is_applied_while_the_payments_own_call_hangs(slow: Service, psp: Held) -> None:
    """F37."""
    payment_id = slow.start()
    with running(slow.container.runner):
        assert psp.has_begun.wait(PATIENCE_SECONDS)
        slow.deliver(an_item())
        slow.drain()
        meanwhile = slow.payment(payment_id).state
        psp.may_end.set()
        poll(lambda: slow.payment(payment_id).state == "fin")

    assert meanwhile == "booking_confirmation"
    assert slow.outside.psp.asked("authorise") == 1


@pytest.mark.parametrize(
    ("service_id", "asked_next", "step"),
    [("fraud", "psp", "preauth"), ("booking", "mail", "email")],
)
def test_a_worker_that_is_told_to_stop_waits_for_its_calls_and_begins_no_others(
    service: Service, service_id: str, asked_next: str, step: str
) -> None:
    """F38: the answer is kept and moves the saga, and the next worker goes on at once."""
    payment_id = service.start()
    if service_id == "booking":
        service.settle()
        service.deliver(an_item())
        service.drain()
    with (
        holding(service, service_id) as (slow, held),
        running(slow.container.runner) as tell_to_stop,
    ):
        assert held.has_begun.wait(PATIENCE_SECONDS)
        tell_to_stop()
        held.may_end.set()

    saga = the_saga(service)
    assert saga["current_step"] == step
    assert (saga["owner"], saga["lease_until"], saga["due"]) == (None, None, service.clock.now())
    assert getattr(service.outside, asked_next).calls == []
    assert service.rows("SELECT success FROM responses WHERE service_id = :id", id=service_id) == [
        {"success": True}
    ]
    service.settle()
    if service_id == "fraud":
        service.receive(an_item())
    assert service.payment(payment_id).state == "fin"
    assert len(getattr(service.outside, service_id).calls) == 1


def test_a_worker_that_is_told_to_stop_claims_nothing_more(service: Service) -> None:
    """F38."""
    stopping = threading.Event()
    stopping.set()
    service.start()

    service.container.runner.run_until(stopping, stop_seconds=PATIENCE_SECONDS)

    assert service.outside.fraud.calls == []
    assert (the_saga(service)["owner"], the_saga(service)["version"]) == (None, 1)


def test_a_call_that_outlasts_the_stop_is_repeated_when_its_lease_is_over_under_its_key(
    slow: Service, psp: Held
) -> None:
    """F38, F22."""
    stopping = threading.Event()
    payment_id = slow.start()
    worker = threading.Thread(
        target=slow.container.runner.run_until, args=(stopping,), kwargs={"stop_seconds": 0.0}
    )
    worker.start()
    assert psp.has_begun.wait(PATIENCE_SECONDS)
    stopping.set()
    slow.container.runner.wake()
    worker.join(PATIENCE_SECONDS)
    assert not worker.is_alive()
    psp.may_end.set()
    saga = the_saga(slow)
    before = slow.container.runner.run_next()

    slow.later(slow.lease_seconds)
    slow.receive(an_item())

    assert saga["lease_until"] == saga["due"] + timedelta(seconds=slow.lease_seconds)
    assert not before
    assert slow.outside.psp.asked("authorise") == 2
    assert len(slow.outside.psp.effects) == 1
    assert slow.payment(payment_id).state == "fin"


def test_an_answer_that_comes_while_the_store_is_away_is_written_when_it_is_back(
    slow: Service, psp: Held, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F39: nothing is asked twice for the sake of an outage that ends within the lease."""
    payment_id = slow.start()
    with running(slow.container.runner), caplog.at_level(logging.WARNING):
        assert psp.has_begun.wait(PATIENCE_SECONDS)
        with postgres_outage(database_url):
            psp.may_end.set()
            poll(lambda: "the store is away" in caplog.text)
        slow.container.engine.dispose()
        poll(lambda: slow.payment(payment_id).psp_reference is not None)

    assert slow.outside.psp.asked("authorise") == 1


def test_a_worker_survives_a_mistake_of_ours(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    payment_id = service.start()
    service.execute("ALTER TABLE saga_instances RENAME COLUMN owner TO nobody")
    with running(service.container.runner), caplog.at_level(logging.ERROR):
        poll(lambda: "work failed" in caplog.text)
        service.execute("ALTER TABLE saga_instances RENAME COLUMN nobody TO owner")
        poll(lambda: service.payment(payment_id).psp_reference is not None)

    assert service.outside.fraud.asked("check") == 1
