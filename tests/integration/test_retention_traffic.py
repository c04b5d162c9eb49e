"""Retention beside live traffic: bounded, skipping, and safe to kill (F43).

Goal: however much there is to delete, nobody waits for more than one batch, and nothing that is
still needed goes. Method: thousands of old rows, a run that is stopped or killed between and within
its batches, and webhooks that are stored and drained meanwhile.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, TextClause, text

from app import failpoints
from tests.support.builders import ACCOUNT, a_webhook, an_item
from tests.support.service import Crash, Service, at_once, crash, poll
from webhooks.retention import BATCH_ROWS, BOUNDED_PLANS, Purged, Retention, Rule

OLD = 5_000

#: Each of the five tables before it has one batch, if it has few rows.
FIRST_INBOX_BATCH = 6


class Stopwatch:
    """Seconds pass at each look, and while somebody pauses."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.pauses: list[float] = []

    def look(self) -> float:
        self.seconds += 1
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.pauses.append(seconds)


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


def a_retention(service: Service, **changes: Any) -> Retention:  # noqa: ANN401  # passed on
    return Retention(
        service.container.engine,
        **{
            "inbox_days": 400,
            "refusals_days": 90,
            "idempotency_days": 30,
            "messages_days": 90,
            **changes,
        },
    )


def store_old(service: Service, number: int, *, days: int = 500) -> None:
    """Put webhooks into the inbox that were done long ago, a second apart from each other."""
    service.execute(
        "INSERT INTO webhook_inbox (guid, merchant_account, event_code, success, psp_reference,"
        " original_reference, merchant_reference, body, is_live, event_date, received_at)"
        " SELECT gen_random_uuid(), :account, 'CAPTURE', true, 'OLD' || n, '', '', 'x', false,"
        " at, at FROM generate_series(1, :number) n,"
        " LATERAL (SELECT CAST(:oldest AS timestamptz) + n * interval '1 second') AS a (at)",
        account=ACCOUNT,
        number=number,
        oldest=service.clock.now() - timedelta(days=days),
    )


def of_the_inbox(purged: list[Purged] | None) -> Purged:
    assert purged is not None
    return purged[-1]


def count_old(service: Service) -> int:
    [row] = service.rows("SELECT count(*) AS n FROM webhook_inbox WHERE psp_reference LIKE 'OLD%'")
    return int(row["n"])


@contextmanager
def stopped_in_the_inbox(service: Service) -> Iterator[None]:
    """A run that stands still in its first batch of the inbox while the block runs."""
    reached, released = threading.Event(), threading.Event()
    batches = count(1)

    def wait() -> None:
        if next(batches) == FIRST_INBOX_BATCH:
            reached.set()
            released.wait(60)

    def purge() -> None:
        a_retention(service).run(as_of=service.clock.now(), max_seconds=600)

    failpoints.arm("retention.before_commit", wait)
    thread = threading.Thread(target=purge)
    thread.start()
    try:
        assert reached.wait(60)
        yield
    finally:
        released.set()
        thread.join(60)


def test_batches_are_bounded_and_half_of_the_time_is_left_to_others(
    service: Service, stopwatch: Stopwatch
) -> None:
    store_old(service, 25)
    retention = a_retention(service, batch_rows=10, timer=stopwatch.look, pause=stopwatch.pause)

    purged = of_the_inbox(retention.run(as_of=service.clock.now(), max_seconds=600))

    assert (purged.rows, purged.batches, purged.is_complete) == (25, 3, True)
    assert stopwatch.pauses == [1.0, 1.0]  # a batch takes one look


def test_no_batch_deletes_more_than_its_rows(service: Service) -> None:
    store_old(service, 35)
    left = [count_old(service)]
    failpoints.arm("retention.after_batch", lambda: left.append(count_old(service)))

    a_retention(service, batch_rows=10).run(as_of=service.clock.now(), max_seconds=600)

    assert [before - after for before, after in pairwise(left)] == [0, 0, 0, 0, 0, 10, 10, 10, 5]


def test_a_run_that_is_out_of_time_stops_and_the_next_one_goes_on(
    service: Service, stopwatch: Stopwatch
) -> None:
    store_old(service, 100)
    retention = a_retention(service, batch_rows=10, timer=stopwatch.look, pause=stopwatch.pause)
    first = of_the_inbox(retention.run(as_of=service.clock.now(), max_seconds=25))

    second = of_the_inbox(retention.run(as_of=service.clock.now(), max_seconds=600))

    assert not first.is_complete
    assert 0 < first.rows < 100
    assert (first.rows + second.rows, second.is_complete) == (100, True)


def test_kept_rows_at_the_old_end_do_not_stop_a_run(service: Service) -> None:
    store_old(service, 40)
    service.execute(
        "INSERT INTO inbox_work (guid, state, due) SELECT guid, 'dead', received_at"
        " FROM webhook_inbox ORDER BY received_at LIMIT 30"
    )
    [oldest] = service.rows("SELECT min(received_at) AS at FROM webhook_inbox")

    purged = of_the_inbox(
        a_retention(service, batch_rows=10).run(as_of=service.clock.now(), max_seconds=600)
    )

    assert (purged.rows, purged.oldest_kept) == (10, oldest["at"])
    assert service.count("webhook_inbox") == 30


def test_rows_of_one_instant_are_all_met(service: Service) -> None:
    store_old(service, 35)
    service.execute("UPDATE webhook_inbox SET received_at = :at", at=service.clock.now())
    service.advance(401 * 24 * 3600)

    purged = of_the_inbox(
        a_retention(service, batch_rows=10).run(as_of=service.clock.now(), max_seconds=600)
    )

    assert purged.rows == 35


def test_what_somebody_holds_is_skipped_not_waited_for(service: Service) -> None:
    store_old(service, 3)
    with service.container.engine.begin() as holder:
        holder.execute(text("SELECT FROM webhook_inbox WHERE psp_reference = 'OLD2' FOR SHARE"))
        beside = of_the_inbox(a_retention(service).run(as_of=service.clock.now(), max_seconds=60))

    afterwards = of_the_inbox(a_retention(service).run(as_of=service.clock.now(), max_seconds=60))

    assert (beside.rows, afterwards.rows) == (2, 1)


def test_work_that_is_opened_after_a_batch_was_chosen_keeps_its_webhook(service: Service) -> None:
    store_old(service, 3)
    failpoints.arm(
        "retention.before_delete",
        lambda: service.execute(
            "INSERT INTO inbox_work (guid, due) SELECT guid, received_at FROM webhook_inbox"
            " WHERE psp_reference = 'OLD2' ON CONFLICT DO NOTHING"
        ),
    )

    purged = of_the_inbox(a_retention(service).run(as_of=service.clock.now(), max_seconds=60))

    assert purged.rows == 2
    assert [row["event_code"] for row in service.work()] == ["CAPTURE"]


def test_a_replay_that_holds_its_webhook_keeps_it(service: Service) -> None:
    store_old(service, 1)
    with service.container.engine.begin() as replay:
        replay.execute(text("SELECT FROM webhook_inbox FOR KEY SHARE"))
        replay.execute(
            text("INSERT INTO inbox_work (guid, due) SELECT guid, received_at FROM webhook_inbox")
        )
        during = of_the_inbox(a_retention(service).run(as_of=service.clock.now(), max_seconds=60))

    after = of_the_inbox(a_retention(service).run(as_of=service.clock.now(), max_seconds=60))

    assert (during.rows, after.rows) == (0, 0)
    assert service.count("webhook_inbox") == 1


def test_new_webhooks_are_stored_and_applied_while_a_batch_holds_its_locks(
    service: Service,
) -> None:
    store_old(service, OLD)
    payment_id = service.start()
    service.settle()

    with stopped_in_the_inbox(service):
        service.receive(an_item())
        state = service.payment(payment_id).state

    assert state == "fin"
    assert count_old(service) == 0


def test_a_redelivery_of_a_webhook_that_is_going_waits_for_its_batch_and_is_stored(
    service: Service, restarted: Service
) -> None:
    restarted.deliver(an_item())  # by a process that is gone, as is what Redis knew of it
    service.execute("DELETE FROM inbox_work")
    service.advance(401 * 24 * 3600)
    statuses: list[int] = []

    def deliver() -> None:
        statuses.append(service.post_webhook(a_webhook()).status_code)

    sender = threading.Thread(target=deliver)
    with stopped_in_the_inbox(service):
        sender.start()
        poll(service.is_waiting_for_a_lock)
    sender.join(60)

    assert statuses == [200]
    assert service.count("webhook_inbox") == service.count("inbox_work") == 1


def test_thousands_of_old_rows_go_while_new_ones_are_stored_and_drained(service: Service) -> None:
    store_old(service, OLD)
    going = threading.Event()
    failpoints.arm("retention.after_batch", going.set)
    new = [an_item("REPORT_AVAILABLE", psp_reference=f"NEW{number}") for number in range(60)]
    is_over = threading.Event()

    def purge() -> int:
        purged = a_retention(service, batch_rows=200).run(
            as_of=service.clock.now(), max_seconds=600
        )
        return of_the_inbox(purged).rows

    def store() -> int:
        assert going.wait(60)
        for item in new:
            service.deliver(item)
        is_over.set()
        return len(new)

    def drain() -> int:
        while not is_over.is_set() or service.count("inbox_work"):
            service.container.drain.run_next()
        return len(service.work())

    results = at_once([purge, store, drain])

    assert results == [OLD, len(new), 0]
    assert (count_old(service), service.count("webhook_inbox")) == (0, len(new))


@pytest.mark.parametrize("name", ["retention.before_commit", "retention.after_batch"])
def test_death_in_the_middle_leaves_whole_batches_and_the_next_run_finishes(
    service: Service, name: str
) -> None:
    store_old(service, 50)
    batches = count(1)

    def die() -> None:
        if next(batches) == FIRST_INBOX_BATCH + 2:
            failpoints.disarm_all()
            crash()

    failpoints.arm(name, die)
    with pytest.raises(Crash):
        a_retention(service, batch_rows=10).run(as_of=service.clock.now(), max_seconds=600)
    left = count_old(service)

    rest = of_the_inbox(
        a_retention(service, batch_rows=10).run(as_of=service.clock.now(), max_seconds=600)
    )

    assert left == {"retention.before_commit": 30, "retention.after_batch": 20}[name]
    assert (rest.rows, rest.is_complete) == (left, True)


FILL: Mapping[str, str] = {
    "webhook_refusals": "INSERT INTO webhook_refusals (code, detail, body, received_at)"
    " SELECT 'x', 'x', 'x', {at} FROM generate_series(1, 50000) n",
    "idempotency_keys": "INSERT INTO idempotency_keys (merchant_account, key, fingerprint,"
    " payment_id, lease_until, created_at) SELECT 'x', 'key-' || n, 'x', gen_random_uuid(), {at},"
    " {at} FROM generate_series(1, 50000) n",
    "commands": "SET LOCAL session_replication_role = 'replica';"
    " INSERT INTO saga_instances (saga_id, payment_id, saga_type, definition_version, current_step,"
    " status, version, created_at, updated_at) SELECT gen_random_uuid(), gen_random_uuid(), 'x', 1,"
    " 'fin', 'resting', 1, {at}, {at} FROM generate_series(1, 50000) n;"
    " INSERT INTO commands (message_id, saga_id, step, direction, round, merchant_account,"
    " service_id, operation, idempotency_key, data, timestamp) SELECT gen_random_uuid(), saga_id,"
    " 'x', 'act', 1, 'x', 'x', 'x', 'x', '{{}}', created_at FROM saga_instances;"
    " INSERT INTO responses (message_id, command_id, saga_id, service_id, data, success, timestamp)"
    " SELECT gen_random_uuid(), message_id, saga_id, 'x', '{{}}', true, timestamp FROM commands",
    "webhook_redeliveries": "INSERT INTO webhook_redeliveries (guid, event_date, received_at)"
    " SELECT gen_random_uuid(), {at}, {at} FROM generate_series(1, 50000) n",
    "webhook_inbox": "INSERT INTO webhook_inbox (guid, merchant_account, event_code, success,"
    " psp_reference, original_reference, merchant_reference, body, is_live, event_date,"
    " received_at) SELECT gen_random_uuid(), 'x', 'CAPTURE', true, 'OLD' || n, '', '', 'x', false,"
    " {at}, {at} FROM generate_series(1, 50000) n",
}

AT = "timestamptz '2024-01-01T00:00:00Z' + n * interval '1 minute'"


def explain(connection: Connection, statement: TextClause, **values: object) -> Mapping[str, Any]:
    """Run a statement and return its plan, with what it read."""
    found = connection.execute(
        text(f"EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) {statement.text}"), values
    ).scalar_one()
    [plan] = found if isinstance(found, list) else json.loads(found)
    top: Mapping[str, Any] = plan["Plan"]
    return top


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def pages(plan: Mapping[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def rule_of(service: Service, table: str) -> Rule:
    [rule] = [rule for rule in a_retention(service).rules if rule.table == table]
    return rule


@pytest.mark.parametrize("table", FILL)
@pytest.mark.parametrize("before", ["2024-01-03", "2024-01-20", "2030-01-01"])
def test_a_batch_reads_its_rows_through_the_index_on_their_age(
    service: Service, table: str, before: str
) -> None:
    service.execute(FILL[table].format(at=AT))
    service.execute(f"ANALYZE {table}")

    with service.container.engine.begin() as connection:
        plan = explain(
            connection,
            rule_of(service, table).lock_batch,
            after="-infinity",
            after_place="(0,0)",
            before=before,
            rows_max=BATCH_ROWS,
        )

    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"]]
    assert [scan["Node Type"] for scan in scans] == ["Index Scan"]
    assert scans[0]["Index Name"] in {
        f"ix_{table}_{age}" for age in ("received_at", "created_at", "timestamp")
    }
    assert scans[0]["Actual Rows"] < 2 * BATCH_ROWS


@pytest.mark.parametrize("is_analysed", [False, True])
@pytest.mark.parametrize("table", FILL)
def test_a_batch_deletes_by_place_and_reads_no_whole_table(
    service: Service, table: str, *, is_analysed: bool
) -> None:
    has_messages = table == "commands"  # which the others do not look at
    for name, sql in FILL.items():
        if (name == "commands") is has_messages:
            service.execute(sql.format(at=AT))
    if is_analysed:
        service.execute("ANALYZE")
    places = service.rows(f"SELECT CAST(ctid AS text) AS place FROM {table} LIMIT {BATCH_ROWS}")

    with service.container.engine.begin() as connection:
        connection.execute(BOUNDED_PLANS)
        plan = explain(
            connection,
            rule_of(service, table).delete_batch,
            places=[row["place"] for row in places],
            before="2030-01-01",
            as_of="2030-01-01",
        )

    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"]]
    by_place = {scan["Alias"] for scan in scans if scan["Node Type"] == "Tid Scan"}
    assert by_place in ({"t"}, {"t", "t_1"})
    assert {scan["Index Name"] for scan in scans if scan["Alias"] not in by_place} <= {
        "pk_inbox_work",
        "pk_webhook_inbox",
        "pk_saga_instances",
        "ix_responses_command_id",
        "ix_webhook_redeliveries_guid",
    }


def test_a_batch_does_not_step_over_what_earlier_batches_deleted(service: Service) -> None:
    service.execute("ALTER TABLE webhook_inbox SET (autovacuum_enabled = false)")
    service.execute(FILL["webhook_inbox"].format(at=AT))
    service.execute("ANALYZE webhook_inbox")
    lock_batch = rule_of(service, "webhook_inbox").lock_batch
    [middle] = service.rows(
        "SELECT received_at, CAST(ctid AS text) AS place FROM webhook_inbox"
        " ORDER BY received_at OFFSET 40000 LIMIT 1"
    )
    values = {"before": "2030-01-01", "rows_max": BATCH_ROWS}
    with service.container.engine.begin() as connection:
        untouched = explain(
            connection, lock_batch, after="-infinity", after_place="(0,0)", **values
        )
    service.execute("DELETE FROM webhook_inbox WHERE received_at <= :at", at=middle["received_at"])

    with service.container.engine.begin() as connection:
        plan = explain(
            connection,
            lock_batch,
            after=middle["received_at"],
            after_place=middle["place"],
            **values,
        )

    assert pages(plan) <= 2 * pages(untouched)
