"""Postgres away: nothing is acknowledged, nothing is lost, and the caller is told to come back.

F39, F42, promise 1: the database goes while the service runs, its pool runs dry, a statement hangs,
or more webhooks wait than are stored. The same under real processes, where Postgres is killed and
hangs, is in tests/e2e/test_faults_of_stores.py.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from werkzeug.test import TestResponse

from app import failpoints
from app.errors import StoreUnavailable
from tests.support.builders import a_start_body, a_webhook, an_item
from tests.support.outages import postgres_outage
from tests.support.service import Service, at_once, poll
from webhooks import group_commit, keyring
from webhooks.drain import LONGEST_WAIT_SECONDS, TRIES_MAX

NOWHERE = SecretStr("postgresql://nobody@/nowhere?host=/nonexistent")


@pytest.fixture
def warm(service: Service) -> Service:
    """A service that has served, so that its caches are full and its connections open."""
    service.deliver(an_item("REPORT_AVAILABLE"))
    return service


@pytest.fixture
def nowhere(service: Service) -> Iterator[Service]:
    """A service whose Postgres never was there."""
    other = service.restarted(database_url=NOWHERE)
    yield other
    other.container.close()


def stored(service: Service) -> int:
    """Count the webhooks on disk, over connections made after the outage."""
    service.container.engine.dispose()
    return service.count("webhook_inbox")


@contextmanager
def dry_pool(service: Service) -> Iterator[None]:
    """Every pooled connection of the service is taken."""
    with ExitStack() as held:
        for _ in range(service.container.pool_size):
            held.enter_context(service.container.engine.connect())
        yield


def test_a_webhook_is_not_acknowledged(warm: Service, database_url: str) -> None:
    with postgres_outage(database_url):
        statuses = [warm.post_webhook(a_webhook()).status_code for _ in range(3)]

    assert statuses == [503] * 3
    assert stored(warm) == 1


def test_the_caller_is_told_to_come_back(warm: Service, database_url: str) -> None:
    with postgres_outage(database_url):
        response = warm.post_webhook(a_webhook())

    assert int(response.headers["Retry-After"]) > 0
    assert response.mimetype == "application/problem+json"
    assert response.json is not None
    assert response.json["code"] == "store_unavailable"


def test_the_redelivery_after_the_outage_is_stored(warm: Service, database_url: str) -> None:
    with postgres_outage(database_url):
        warm.post_webhook(a_webhook())

    assert warm.post_webhook(a_webhook()).status_code == 200
    assert stored(warm) == 2


def test_a_forgery_is_refused_although_it_can_not_be_kept(warm: Service, database_url: str) -> None:
    with postgres_outage(database_url):
        response = warm.post_webhook(b"forged")

    assert response.status_code == 400


def test_a_webhook_at_a_service_that_never_had_postgres_is_not_acknowledged(
    nowhere: Service,
) -> None:
    response = nowhere.post_webhook(a_webhook())

    assert response.status_code == 503
    assert "Retry-After" in response.headers


def test_a_payment_is_not_accepted(warm: Service, database_url: str) -> None:
    headers = {"Authorization": f"Bearer {warm.api_key()}", "Idempotency-Key": "key-1"}

    with postgres_outage(database_url):
        response = warm.client.post("/payments", json=a_start_body(), headers=headers)

    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert warm.count("payments") == 0


def test_the_service_is_alive_but_not_ready(nowhere: Service) -> None:
    live, ready = nowhere.client.get("/health/live"), nowhere.client.get("/health/ready")

    assert (live.status_code, ready.status_code) == (200, 503)
    assert ready.json is not None
    assert ready.json["checks"]["postgres"].startswith("unavailable")


def test_the_service_is_ready_again_after_the_outage(warm: Service, database_url: str) -> None:
    with postgres_outage(database_url):
        during = warm.client.get("/health/ready").status_code

    assert (during, warm.client.get("/health/ready").status_code) == (503, 200)


def test_a_worker_goes_on_after_the_outage(warm: Service, database_url: str) -> None:
    payment_id = warm.start()
    with postgres_outage(database_url):
        with pytest.raises(StoreUnavailable):
            warm.container.runner.run_next()
        with pytest.raises(StoreUnavailable):
            warm.container.drain.run_next()

    warm.settle()
    warm.receive(an_item())

    assert warm.payment(payment_id).state == "fin"


def test_an_outage_during_a_call_repeats_it_under_the_same_key(
    warm: Service, database_url: str
) -> None:
    payment_id = warm.start()
    with ExitStack() as outage:
        warm.outside.psp.before_answer = lambda: outage.enter_context(postgres_outage(database_url))
        with pytest.raises(StoreUnavailable):
            warm.settle()
    warm.outside.psp.before_answer = lambda: None

    warm.later(warm.lease_seconds)
    warm.receive(an_item())

    assert warm.payment(payment_id).state == "fin"
    assert warm.outside.psp.asked("authorise") == 2
    assert len(warm.outside.psp.effects) == 1


def test_connections_lost_in_mid_transaction_never_make_a_webhook_dead(
    service: Service, database_url: str
) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(an_item())

    def lose_every_connection() -> None:
        with postgres_outage(database_url):
            pass

    for _ in range(TRIES_MAX + 2):
        failpoints.arm("drain.before_commit", lose_every_connection)
        service.advance(LONGEST_WAIT_SECONDS)
        with suppress(StoreUnavailable):
            service.drain()
    failpoints.disarm_all()
    service.later(LONGEST_WAIT_SECONDS)

    assert service.work() == []
    assert service.payment(payment_id).funds.authorised == 12500


def test_a_dry_pool_holds_up_no_webhook(service: Service) -> None:
    service.deliver(an_item("REPORT_AVAILABLE"))

    with dry_pool(service):
        response = service.post_webhook(a_webhook())

    assert response.status_code == 200
    assert service.count("webhook_inbox") == 2


def test_a_dry_pool_holds_up_no_webhook_when_keys_are_to_be_looked_up_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.deliver(an_item("REPORT_AVAILABLE"))
    monkeypatch.setattr(keyring, "CACHE_SECONDS", 0.0)

    with dry_pool(service):
        statuses = at_once([lambda: service.post_webhook(a_webhook()).status_code] * 4)

    assert statuses == [200] * 4
    assert service.count("webhook_inbox") == 2


def test_a_dry_pool_is_a_bounded_wait_for_a_payment_and_nothing_is_lost(service: Service) -> None:
    headers = {"Authorization": f"Bearer {service.api_key()}", "Idempotency-Key": "key-1"}

    with dry_pool(service):
        refused = service.client.post("/payments", json=a_start_body(), headers=headers)
    accepted = service.client.post("/payments", json=a_start_body(), headers=headers)

    assert (refused.status_code, accepted.status_code) == (503, 202)
    assert "Retry-After" in refused.headers
    assert service.count("payments") == 1


def test_a_restart_of_postgres_between_two_webhooks_costs_neither(
    warm: Service, database_url: str
) -> None:
    with postgres_outage(database_url):
        pass

    assert warm.post_webhook(a_webhook()).status_code == 200


def test_more_webhooks_than_may_wait_are_told_to_come_back_and_the_others_are_on_disk(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "WAITING_MAX", 2)
    is_storing, may_store = threading.Event(), threading.Event()
    refused: list[TestResponse] = []

    def hold() -> None:
        is_storing.set()
        assert may_store.wait(60)

    def post(number: int) -> int:
        response = service.post_webhook(a_webhook(an_item(psp_reference=f"PSP{number}")))
        if response.status_code == 503:
            refused.append(response)
            if len(refused) == 7:
                may_store.set()
        return response.status_code

    failpoints.arm("inbox.before_commit", hold)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, 0)
        assert is_storing.wait(60)
        statuses = at_once([partial(post, number) for number in range(1, 10)])

        assert sorted([first.result(), *statuses]) == [200] * 3 + [503] * 7
    assert all(int(response.headers["Retry-After"]) > 0 for response in refused)
    assert service.count("webhook_inbox") == 3


def test_a_statement_that_hangs_is_given_up_and_costs_no_webhook(
    warm: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.05)
    first, second = a_webhook(an_item(psp_reference="A")), a_webhook(an_item(psp_reference="B"))
    with ThreadPoolExecutor(1) as pool:
        with warm.container.engine.connect() as holder:
            holder.execute(text("LOCK TABLE webhook_inbox IN EXCLUSIVE MODE"))
            storing = pool.submit(warm.post_webhook, first)
            poll(warm.is_waiting_for_a_lock)
            impatient = warm.post_webhook(second)
        stored = storing.result()

    assert (stored.status_code, impatient.status_code) == (200, 503)
    assert int(impatient.headers["Retry-After"]) > 0
    assert warm.count("webhook_inbox") == 2
    assert warm.post_webhook(second).status_code == 200
    assert warm.count("webhook_inbox") == 3
