"""What may happen to Postgres and Redis, under real processes: F39, F40, F42, F43, F54, F55.

Goal: promises 1 and 2 of the README hold while the stores die, hang, forget and are cleaned up.
Method: as in test_faults_of_webhooks: a sender delivers each webhook until it is acknowledged; then
what was acknowledged, what is on disk and what moved a payment must be the same, each once.

A pool that is dry, and a queue that is full, are in tests/integration/test_postgres_away.py.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from redis import Redis

from tests.support.builders import ACCOUNT
from tests.support.deliveries import Load, a_load
from tests.support.instance import eventually
from tests.support.processes import Fleet, Stores

OLD = 20_000


def assert_each_moved_once(fleet: Fleet, load: Load) -> None:
    """Count what was acknowledged, what is on disk, and what moved a payment."""
    fleet.await_drained(load.prefix)
    assert sorted(set(load.acknowledged)) == fleet.stored(load.prefix)
    assert fleet.stored(load.prefix) == fleet.moved(load.prefix)


def refusals_without_retry_after(load: Load) -> list[int | None]:
    return [
        answer.status
        for answer in load.answers
        if answer.status != 200 and not (answer.retry_after or "").isdecimal()
    ]


def count_old(fleet: Fleet) -> int:
    [(number,)] = fleet.ask("SELECT count(*) FROM webhook_inbox WHERE psp_reference LIKE 'OLD%%'")
    return int(number)


def await_transaction_of_the_worker(fleet: Fleet) -> None:
    """Wait until the worker is between the statements of a transaction."""
    eventually(
        lambda: fleet.ask(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'countersign worker'"
            " AND state = 'idle in transaction'"
        )
    )


@pytest.mark.parametrize("fall", [Stores.kill_postgres, Stores.stop_postgres_at_once])
def test_a_restart_of_postgres_in_mid_transaction_loses_no_acknowledged_webhook(
    fleet: Fleet, fall: Callable[[Stores], None]
) -> None:
    """F39, promises 1 and 2: meanwhile 503 with Retry-After; what was under way is done again."""
    fleet.worker.kill_9()
    slow = fleet.another("worker", COUNTERSIGN_FAILPOINTS="drain.before_commit=sleep:0.1")
    slow.start()
    try:
        with a_load(f"F39-{fall.__name__}", fleet.ports) as load:
            load.await_acknowledged(50)
            await_transaction_of_the_worker(fleet)
            fall(fleet.stores)
            load.await_status(503, 10)
            fleet.stores.start_postgres()
            load.await_acknowledged(50)

        assert_each_moved_once(fleet, load)
        assert set(load.statuses) == {200, 503}
        assert refusals_without_retry_after(load) == []
        assert slow.is_running
    finally:
        slow.kill_9()


def test_a_worker_that_loses_every_connection_goes_on(fleet: Fleet) -> None:
    """F40, promises 1 and 2: nothing needs a wake-up: a worker that asks again finds its work."""
    with a_load("F40", fleet.ports) as load:
        for _loss in range(3):
            load.await_acknowledged(50)
            eventually(
                lambda: fleet.ask(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'countersign worker%%'"
                )
            )

    assert_each_moved_once(fleet, load)
    assert set(load.statuses) == {200}
    assert fleet.worker.is_running


def test_a_hanging_postgres_is_a_bounded_wait_and_no_loss(fleet: Fleet) -> None:
    """F42, promise 1: 503 with Retry-After, again and again; then new webhooks are stored."""
    with a_load("F42", fleet.ports) as load:
        load.await_acknowledged(50)
        with fleet.stores.hanging_postgres():
            load.await_status(503, 4)  # those who waited, and then those they waited for
        load.await_acknowledged(50)

    assert_each_moved_once(fleet, load)
    assert set(load.statuses) == {200, 503}
    assert refusals_without_retry_after(load) == []


def test_retention_beside_live_traffic_takes_what_is_old_and_nothing_new_even_when_killed(
    fleet: Fleet,
) -> None:
    """F43, promise 1: web, worker and retention at once, and kill -9 of retention in mid-run."""
    fleet.ask(
        "INSERT INTO webhook_inbox (guid, merchant_account, event_code, success, psp_reference,"
        " original_reference, merchant_reference, body, is_live, event_date, received_at)"
        " SELECT gen_random_uuid(), %(account)s, 'CAPTURE', true, 'OLD' || n, '', '', 'x', false,"
        " at, at FROM generate_series(1, %(old)s) n,"
        " LATERAL (SELECT now() - interval '500 days' + n * interval '1 second') AS a (at)",
        account=ACCOUNT,
        old=OLD,
    )
    fleet.ask(
        "INSERT INTO inbox_work (guid, due, state) SELECT guid, received_at, 'dead'"
        " FROM webhook_inbox WHERE psp_reference = 'OLD7'"
    )
    slow = fleet.another("retention", COUNTERSIGN_FAILPOINTS="retention.after_batch=sleep:0.05")
    with a_load("F43", fleet.ports) as load:
        slow.start()
        eventually(lambda: count_old(fleet) < OLD)
        slow.kill_9()
        after_the_kill = count_old(fleet)
        again = fleet.another("retention")
        again.start()
        code = again.wait()
        load.await_acknowledged(50)

    assert 1 < after_the_kill < OLD
    assert code == 0
    assert fleet.stored("OLD") == ["OLD7"], "it has open work"
    assert_each_moved_once(fleet, load)
    assert set(load.statuses) == {200}


def test_a_redis_that_forgets_everything_at_any_instant_doubles_and_loses_nothing(
    fleet: Fleet,
) -> None:
    """F54, promises 1 and 2: every webhook comes twice, while Redis is flushed all the time."""
    with (
        Redis.from_url(fleet.stores.redis.url) as redis,
        a_load("F54", fleet.ports, times=2) as load,
    ):

        def flush() -> bool:
            redis.flushall()
            return load.statuses[200] >= 600

        eventually(flush)

    assert_each_moved_once(fleet, load)
    assert set(load.statuses) == {200}
    assert fleet.redelivered("F54") == fleet.stored("F54")


@pytest.mark.parametrize("outage", [Stores.no_redis, Stores.hanging_redis])
def test_a_redis_that_is_away_refuses_doubles_and_loses_nothing(
    fleet: Fleet, outage: Callable[[Stores], AbstractContextManager[None]]
) -> None:
    """F55, promises 1 and 2: killed or hanging, under load, and when it is back."""
    with a_load(f"F55-{outage.__name__}", fleet.ports, times=2) as load:
        load.await_acknowledged(50)
        with outage(fleet.stores):
            load.await_acknowledged(200)
        load.await_acknowledged(50)

    assert_each_moved_once(fleet, load)
    assert set(load.statuses) == {200}
    assert fleet.redelivered(load.prefix) == fleet.stored(load.prefix)
