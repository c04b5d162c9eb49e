"""What is older than its horizon goes; what is still needed stays, whatever its age (F7, F43)."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from app.clock import SystemClock
from tests.support.builders import (
    ACCOUNT,
    HMAC_KEY,
    OTHER_HMAC_KEY,
    PSP_REFERENCE,
    a_start_body,
    a_webhook,
    an_item,
)
from tests.support.commands import CommandLine
from tests.support.participants import Participant
from tests.support.service import Service
from webhooks.retention import KEY_USES_DAYS, RETENTION_LOCK, Purged, Retention

INBOX_DAYS = 400
REFUSALS_DAYS = 90
IDEMPOTENCY_DAYS = 30
MESSAGES_DAYS = 60


@pytest.fixture
def retention(service: Service) -> Retention:
    return Retention(
        service.container.engine,
        inbox_days=INBOX_DAYS,
        refusals_days=REFUSALS_DAYS,
        idempotency_days=IDEMPOTENCY_DAYS,
        messages_days=MESSAGES_DAYS,
    )


@pytest.fixture
def paid(service: Service) -> UUID:
    """A payment whose webhook was applied."""
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    assert service.count("inbox_work") == 0
    return payment_id


def purge(retention: Retention, service: Service) -> Mapping[str, Purged]:
    purged = retention.run(as_of=service.clock.now(), max_seconds=600)
    assert purged is not None
    return {one.table: one for one in purged}


def a_void(*, success: bool = True) -> Mapping[str, object]:
    return an_item(
        "CANCELLATION",
        success=success,
        psp_reference="MODCANCEL",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:30:00+01:00",
    )


def advance_days(service: Service, days: float) -> None:
    service.advance(days * 24 * 3600)


@pytest.mark.usefixtures("paid")
def test_a_processed_webhook_goes_after_its_horizon(service: Service, retention: Retention) -> None:
    advance_days(service, INBOX_DAYS)
    at_the_horizon = purge(retention, service)["webhook_inbox"].rows
    service.advance(1)

    beyond_it = purge(retention, service)["webhook_inbox"].rows

    assert (at_the_horizon, beyond_it) == (0, 1)
    assert service.count("webhook_inbox") == 0


@pytest.mark.parametrize("state", ["new", "parked", "dead"])
def test_a_webhook_with_open_work_stays_whatever_its_age(
    service: Service, retention: Retention, state: str
) -> None:
    service.deliver(an_item())
    service.execute("UPDATE inbox_work SET state = :state", state=state)
    advance_days(service, 10 * INBOX_DAYS)

    purged = purge(retention, service)["webhook_inbox"]

    assert purged.rows == 0
    assert purged.oldest_kept is not None
    assert service.count("webhook_inbox") == 1


@pytest.mark.usefixtures("paid")
def test_a_webhook_is_known_until_the_horizon_after_its_last_delivery(
    service: Service, retention: Retention
) -> None:
    service.deliver(an_item())
    advance_days(service, INBOX_DAYS - 1)
    service.deliver(an_item())
    advance_days(service, INBOX_DAYS - 1)
    purge(retention, service)
    still_known = service.count("webhook_inbox"), service.count("webhook_redeliveries")
    advance_days(service, 2)

    purge(retention, service)

    assert still_known == (1, 2)
    assert service.count("webhook_inbox") == 0
    assert service.count("webhook_redeliveries") == 0


def test_the_redeliveries_of_a_webhook_with_open_work_stay_with_it(
    service: Service, retention: Retention
) -> None:
    service.deliver(an_item(), an_item())
    advance_days(service, 10 * INBOX_DAYS)

    purge(retention, service)

    assert service.count("webhook_redeliveries") == 1


def test_redeliveries_without_their_webhook_go(service: Service, retention: Retention) -> None:
    service.deliver(an_item(), an_item())
    service.execute("DELETE FROM inbox_work")
    service.execute("DELETE FROM webhook_inbox")
    advance_days(service, INBOX_DAYS + 1)

    purged = purge(retention, service)["webhook_redeliveries"]

    assert purged.rows == 1


def test_a_webhook_that_comes_once_more_after_it_was_forgotten_changes_nothing(
    service: Service, retention: Retention, paid: UUID
) -> None:
    before = service.payment(paid)
    advance_days(service, INBOX_DAYS + 1)
    purge(retention, service)

    service.receive(an_item())

    assert service.count("webhook_inbox") == 1
    assert service.payment(paid).funds == before.funds
    assert service.payment(paid).state == before.state
    assert service.discrepancies() == []


def test_history_is_not_touched(service: Service, retention: Retention, paid: UUID) -> None:
    before = service.rows("SELECT * FROM payment_events ORDER BY payment_id, seq")
    advance_days(service, 10 * INBOX_DAYS)

    purge(retention, service)

    assert service.rows("SELECT * FROM payment_events ORDER BY payment_id, seq") == before
    assert service.payment(paid).state == "fin"
    assert service.discrepancies() == []


def test_a_refusal_goes_after_its_horizon(service: Service, retention: Retention) -> None:
    service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))
    advance_days(service, REFUSALS_DAYS - 1)
    early = purge(retention, service)["webhook_refusals"]
    advance_days(service, 2)

    late = purge(retention, service)["webhook_refusals"]

    assert (early.rows, late.rows) == (0, 1)
    assert early.oldest_kept is not None


def test_the_uses_of_a_key_go_by_their_day(service: Service, retention: Retention) -> None:
    days = (KEY_USES_DAYS + 1, KEY_USES_DAYS - 1)
    for age in days:
        at = service.clock.now() - timedelta(days=age)
        service.execute(
            "INSERT INTO hmac_key_uses (key_id, day, uses, last_used_at)"
            " SELECT key_id, :day, 1, :at FROM hmac_keys",
            day=at.date(),
            at=at,
        )

    purged = purge(retention, service)["hmac_key_uses"]

    assert purged.rows == 1
    assert purged.oldest_kept == (service.clock.now() - timedelta(days=days[1])).date()


@pytest.fixture
def elsewhere(service: Service) -> Iterator[Service]:
    """The service, with a booking service that lives elsewhere."""
    other = service.restarted(remote_services="booking")
    yield other
    other.container.close()


def messages(service: Service) -> tuple[int, int]:
    return service.count("commands"), service.count("responses")


@pytest.mark.usefixtures("paid")
def test_messages_go_some_time_after_their_payment_came_to_rest(
    service: Service, retention: Retention
) -> None:
    before = messages(service)
    advance_days(service, MESSAGES_DAYS)
    at_the_horizon = purge(retention, service)["commands"].rows
    service.advance(1)

    beyond_it = purge(retention, service)["commands"].rows

    assert before[0] == before[1] == beyond_it > 0
    assert (at_the_horizon, *messages(service)) == (0, 0, 0)


def test_messages_of_a_payment_that_goes_on_stay_whatever_their_age(
    service: Service, retention: Retention
) -> None:
    service.start()
    service.settle()
    before = messages(service)
    advance_days(service, 10 * MESSAGES_DAYS)  # no worker has looked since

    purged = purge(retention, service)["commands"]

    assert (purged.rows, messages(service)) == (0, before)
    assert purged.oldest_kept is not None


def test_the_horizon_of_messages_counts_from_the_rest_not_from_the_message(
    service: Service, retention: Retention
) -> None:
    payment_id = service.start()
    service.settle()
    advance_days(service, MESSAGES_DAYS)
    service.receive(an_item())  # all workers were away, and the PSP kept trying
    advance_days(service, 1)

    early = purge(retention, service)["commands"].rows
    advance_days(service, MESSAGES_DAYS)
    late = purge(retention, service)["commands"].rows

    assert service.payment(payment_id).state == "fin"
    assert early == 0
    assert late > 0
    assert messages(service) == (0, 0)


def test_messages_of_a_payment_that_waits_for_a_person_stay(
    service: Service, retention: Retention
) -> None:
    service.outside.booking.says_yes = False
    payment_id = service.start()
    service.settle()
    service.receive(an_item(), a_void(success=False))
    before = messages(service)
    advance_days(service, 10 * MESSAGES_DAYS)

    purged = purge(retention, service)["commands"]

    assert service.payment(payment_id).state == "manual_review"
    assert (purged.rows, messages(service)) == (0, before)


@pytest.mark.usefixtures("paid")
def test_no_address_of_the_shopper_is_left_in_the_queues(
    service: Service, retention: Retention
) -> None:
    holds = "SELECT 1 FROM commands WHERE CAST(data AS text) LIKE '%s.hopper@example.com%'"
    before = service.rows(holds)
    advance_days(service, MESSAGES_DAYS + 1)

    purge(retention, service)

    assert before
    assert service.rows(holds) == []
    assert service.discrepancies() == []


def test_a_command_that_went_can_not_be_answered_any_more(
    elsewhere: Service, retention: Retention
) -> None:
    booking = Participant.of(elsewhere, "booking")
    elsewhere.start()
    elsewhere.settle()
    elsewhere.receive(an_item())
    item = booking.take_one()
    booking.answer(item)
    elsewhere.settle()
    advance_days(elsewhere, MESSAGES_DAYS + 1)
    purge(retention, elsewhere)

    assert booking.respond(item, success=True, data={}).status_code == 404


def test_an_answer_under_way_keeps_its_command(elsewhere: Service, retention: Retention) -> None:
    booking = Participant.of(elsewhere, "booking")
    elsewhere.start()
    elsewhere.settle()
    elsewhere.receive(an_item())
    message_id = UUID(booking.take_one()["message_id"])
    elsewhere.later(600)
    elsewhere.receive(a_void())
    booking.answer(booking.take_one())
    elsewhere.settle()
    advance_days(elsewhere, MESSAGES_DAYS + 1)

    with elsewhere.container.unit_of_work() as uow:
        uow.transport.handed_out(message_id)
        purge(retention, elsewhere)

    kept = elsewhere.rows("SELECT message_id FROM commands")
    assert [row["message_id"] for row in kept] == [message_id]


def start(client: FlaskClient, api_key: str) -> tuple[int, Mapping[str, object]]:
    response = client.post(
        "/payments",
        json=a_start_body(),
        headers={"Authorization": f"Bearer {api_key}", "Idempotency-Key": "key-1"},
    )
    assert response.json is not None
    return response.status_code, response.json


def test_a_retry_after_its_key_was_purged_starts_no_second_payment(
    service: Service, retention: Retention, api_key: str
) -> None:
    assert start(service.client, api_key)[0] == 202
    advance_days(service, IDEMPOTENCY_DAYS + 1)
    assert purge(retention, service)["idempotency_keys"].rows == 1

    status, problem = start(service.client, api_key)

    assert (status, problem["code"]) == (409, "merchant_reference_taken")
    assert service.count("payments") == 1


def test_an_old_key_that_a_request_holds_stays(
    service: Service, retention: Retention, api_key: str
) -> None:
    start(service.client, api_key)
    advance_days(service, IDEMPOTENCY_DAYS + 1)
    service.execute(
        "UPDATE idempotency_keys SET lease_until = :until",
        until=service.clock.now() + timedelta(seconds=1),
    )

    purged = purge(retention, service)["idempotency_keys"]

    assert purged.rows == 0


def test_a_plan_tells_what_a_run_then_does(
    service: Service, retention: Retention, paid: UUID
) -> None:
    service.deliver(an_item(), an_item("CODE_OF_NEXT_YEAR"))
    service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))
    advance_days(service, INBOX_DAYS + 1)
    service.receive(an_item("REPORT_AVAILABLE"))
    before, before_rows = service.payment(paid), service.count("commands")

    planned = retention.plan(as_of=service.clock.now())
    purged = purge(retention, service)

    assert all(one.is_exact for one in planned)
    assert {one.table: (one.rows, one.oldest_kept) for one in planned} == {
        table: (one.rows, one.oldest_kept) for table, one in purged.items()
    }
    assert {one.table: one.rows for one in planned if one.table != "hmac_key_uses"} == {
        "webhook_refusals": 1,
        "idempotency_keys": 1,
        "commands": before_rows,
        "webhook_redeliveries": 1,
        "webhook_inbox": 1,
    }
    assert service.payment(paid) == before


def test_a_plan_looks_at_a_bounded_number_of_rows(service: Service, retention: Retention) -> None:
    service.deliver(*(an_item(psp_reference=f"PSP{number}") for number in range(5)))
    service.execute("DELETE FROM inbox_work")
    advance_days(service, INBOX_DAYS + 1)

    planned = {one.table: one for one in retention.plan(as_of=service.clock.now(), rows_max=3)}

    assert planned["webhook_inbox"].rows == 3
    assert not planned["webhook_inbox"].is_exact
    assert planned["webhook_refusals"].is_exact


@pytest.fixture
def long_ago(service: Service) -> None:
    """A webhook that was done longer ago than the horizon, by the machine's clock."""
    service.clock.at = SystemClock().now() - timedelta(days=INBOX_DAYS + 1)
    service.deliver(an_item())
    service.execute("DELETE FROM inbox_work")


@pytest.mark.usefixtures("long_ago")
def test_a_dry_run_prints_what_would_go_and_changes_nothing(
    countersign: CommandLine, service: Service
) -> None:
    ran = countersign("retention", "--dry-run", "--json")

    rows = {row["table"]: row for row in ran.json["tables"]}
    assert ran.code == 0
    assert rows["webhook_inbox"]["rows"] == 1
    assert service.count("webhook_inbox") == 1


@pytest.mark.usefixtures("long_ago")
def test_a_run_prints_what_went(countersign: CommandLine, service: Service) -> None:
    ran = countersign("retention", "--json")

    rows = {row["table"]: row for row in ran.json["tables"]}
    assert ran.code == 0
    assert (rows["webhook_inbox"]["rows"], rows["webhook_inbox"]["complete"]) == (1, True)
    assert service.count("webhook_inbox") == 0


@pytest.mark.usefixtures("long_ago")
def test_the_horizon_is_a_setting(countersign: CommandLine, service: Service) -> None:
    ran = countersign("retention", COUNTERSIGN_INBOX_DAYS=str(INBOX_DAYS + 2))

    assert ran.code == 0
    assert service.count("webhook_inbox") == 1


@pytest.mark.usefixtures("long_ago")
def test_only_a_dry_run_looks_from_a_time_to_come(
    countersign: CommandLine, service: Service
) -> None:
    service.clock.at = SystemClock().now()
    service.deliver(an_item(psp_reference="OTHER"))
    service.execute("DELETE FROM inbox_work")
    later = (service.clock.at + timedelta(days=INBOX_DAYS + 1)).isoformat()

    planned = countersign("retention", "--dry-run", "--json", "--as-of", later)
    ran = countersign("retention", "--as-of", later)

    assert planned.json["tables"][-1]["rows"] == 2
    assert (ran.code, ran.out) == (2, "")
    assert service.count("webhook_inbox") == 2


@pytest.mark.usefixtures("long_ago")
def test_a_run_beside_another_one_is_exit_code_75(
    countersign: CommandLine, service: Service
) -> None:
    with service.container.engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({RETENTION_LOCK})")
        ran = countersign("retention")

    assert (ran.code, ran.out) == (75, "")
    assert service.count("webhook_inbox") == 1
    assert countersign("retention").code == 0


@pytest.mark.parametrize("name", ["retention.before_commit", "retention.after_batch"])
@pytest.mark.usefixtures("long_ago")
def test_after_a_kill_9_the_next_run_finishes(
    countersign: CommandLine, service: Service, name: str
) -> None:
    killed = countersign("retention", COUNTERSIGN_FAILPOINTS=f"{name}=kill")

    ran = countersign("retention", "--json")

    assert killed.code == -9
    assert ran.json["tables"][-1]["complete"]
    assert service.count("webhook_inbox") == 0


def test_an_account_and_its_key_are_nobodys_leftovers(
    service: Service, retention: Retention
) -> None:
    advance_days(service, 100 * INBOX_DAYS)

    purge(retention, service)

    assert [key for _id, key in service.container.accounts.live_keys(ACCOUNT)] == [HMAC_KEY]
