"""Postgres gives a transaction up because of another one: the work is tried again (F41).

Promises 1 and 2: that is no failure of the webhook, nor of the saga. No try is counted, however
often it happens, and when the other one is gone it is applied, once.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from app.sagas.orchestrator import BUSY_WAIT
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.runners import call, orchestrator, run_all
from tests.support.service import Service, poll
from webhooks.drain import LONGEST_WAIT_SECONDS, TRIES_MAX

GRACE_SECONDS = 60
DOOR = 41

#: Whoever inserts a payment waits at the door, if somebody keeps it shut.
_DOOR = f"""
    CREATE FUNCTION wait_at_the_door() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_lock({DOOR});
        PERFORM pg_advisory_unlock({DOOR});
        RETURN NEW;
    END $$;
    CREATE TRIGGER door BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION wait_at_the_door()
"""

#: The other transaction knows the payment that the drain is about to adopt, and passes the door.
#: It never takes itself for the victim.
_ADOPT = """
    SET LOCAL session_replication_role = 'replica';
    SET LOCAL deadlock_timeout = '10min';
    SET LOCAL lock_timeout = 0;
    INSERT INTO payments SELECT (jsonb_populate_record(p, jsonb_build_object(
        'payment_id', gen_random_uuid(), 'psp_reference', 'EXTERNAL', 'is_ours', false))).*
      FROM payments p
"""


@pytest.fixture
def asked(service: Service) -> UUID:
    """A payment that waits for its authorisation."""
    payment_id = service.start()
    service.settle()
    return payment_id


@contextmanager
def shut_door(service: Service) -> Iterator[None]:
    service.execute(_DOOR)
    with service.container.engine.connect() as keeper:
        keeper.execute(text(f"SELECT pg_advisory_lock({DOOR})"))
        yield
        keeper.execute(text(f"SELECT pg_advisory_unlock({DOOR})"))


def waiting_for_locks(service: Service) -> int:
    [row] = service.rows(
        "SELECT count(*) AS n FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(row["n"])


def deadlocks(service: Service) -> int:
    """Count the deadlocks of this database, as told by the sessions that have ended."""
    service.container.engine.dispose()
    [row] = service.rows(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return int(row["deadlocks"])


def test_the_drain_that_is_a_deadlocks_victim_applies_its_webhooks_afterwards(
    service: Service, asked: UUID
) -> None:
    service.deliver(an_item(), an_item(psp_reference="EXTERNAL", merchant_reference="THEIRS"))
    service.advance(GRACE_SECONDS)

    def take_the_payment(other: Connection) -> None:
        other.execute(
            text("SELECT 1 FROM payments WHERE payment_id = :id FOR UPDATE"), {"id": asked}
        )
        other.rollback()

    with service.container.engine.connect() as other, ThreadPoolExecutor(2) as pool:
        with shut_door(service):
            other.exec_driver_sql(_ADOPT)
            draining = pool.submit(service.drain)  # locks our payment, then waits at the door
            poll(lambda: waiting_for_locks(service) == 1)
            taking = pool.submit(take_the_payment, other)
            poll(lambda: waiting_for_locks(service) == 2)
        taking.result(60)
        draining.result(60)
    poll(lambda: deadlocks(service) > 0)

    assert {work["attempts"] for work in service.work()} <= {0}
    service.later(LONGEST_WAIT_SECONDS)
    assert service.work() == []
    assert service.payment(asked).funds.authorised == 12500
    assert [row["authorised"] for row in service.rows("SELECT authorised FROM payments")] == [
        12500,
        12500,
    ]


codes = pytest.mark.parametrize(
    "code",
    [
        pytest.param("40001", id="serialization failure"),
        pytest.param("40P01", id="deadlock"),
        pytest.param("55P03", id="lock timeout"),
        pytest.param("57014", id="statement timeout"),
    ],
)


def give_up_inserts_into(service: Service, table: str, code: str) -> None:
    service.execute(
        "CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE SQLSTATE '{code}'; END $$;"
        f"CREATE TRIGGER give_up BEFORE INSERT ON {table} EXECUTE FUNCTION give_up()"
    )


@codes
def test_however_often_postgres_gives_it_up_a_webhook_is_not_dead_and_is_applied_in_the_end(
    service: Service, asked: UUID, code: str
) -> None:
    give_up_inserts_into(service, "payment_events", code)
    service.deliver(an_item())
    for _ in range(TRIES_MAX + 2):
        service.advance(LONGEST_WAIT_SECONDS)
        service.drain()
    [meanwhile] = service.work()
    service.execute("DROP TRIGGER give_up ON payment_events")
    service.later(LONGEST_WAIT_SECONDS)

    assert (meanwhile["state"], meanwhile["attempts"]) == ("new", 0)
    assert service.work() == []
    facts = [data["reference"] for data in service.events(asked, "fact_recorded")]
    assert facts.count(PSP_REFERENCE) == 2  # asked for, then authorised


@codes
def test_a_claim_that_postgres_gives_up_is_made_again_a_moment_later(
    service: Service, code: str
) -> None:
    ids = [service.start(merchant_reference=f"ORDER-{number}") for number in range(3)]
    give_up_inserts_into(service, "commands", code)
    run_all(service)
    asked = service.outside.fraud.calls[:]
    service.execute("DROP TRIGGER give_up ON commands")

    service.later(BUSY_WAIT.total_seconds())

    assert asked == []
    assert {service.payment(payment_id).state.value for payment_id in ids} == {"preauth"}
    assert service.outside.fraud.asked("check") == 3


@codes
def test_an_answer_that_postgres_gives_up_is_kept_and_settled_a_moment_later(
    service: Service, code: str
) -> None:
    """Nobody is asked again for its sake."""
    for number in range(3):
        service.start(merchant_reference=f"ORDER-{number}")
    worker = orchestrator(service)
    called = [call(service, turn) for turn in worker.advance(claims_max=3).turns]
    give_up_inserts_into(service, "responses", code)
    meanwhile = worker.advance(called, claims_max=3)
    service.execute("DROP TRIGGER give_up ON responses")

    advance = worker.advance(meanwhile.unsettled)

    assert (meanwhile.turns, meanwhile.unsettled) == ([], called)
    assert {turn.calls[0].record.step for turn in advance.turns} == {"preauth"}
    assert len(advance.turns) == 3
    assert service.outside.fraud.asked("check") == 3
