"""What the commands of operators and cron print, and their exit codes (contract.md section 6).

The commands read the machine's clock, so what they look at is put into its past.
"""

from datetime import timedelta
from uuid import UUID

import pytest

from app.cli.reconcile import SWEEP_LOCK
from app.clock import SystemClock
from tests.support.builders import PSP_REFERENCE, a_webhook, an_item
from tests.support.commands import CommandLine
from tests.support.service import Row, Service


@pytest.fixture(autouse=True)
def long_ago(service: Service) -> None:
    """Everything happened well before the machine's now."""
    service.clock.at = SystemClock().now() - timedelta(days=30)


@pytest.fixture
def stuck(service: Service) -> UUID:
    """A payment whose webhook never came."""
    payment_id = service.start()
    service.settle()
    return payment_id


@pytest.fixture
def late(service: Service, stuck: UUID) -> UUID:
    """A payment with an open break."""
    service.receive(an_item(success=False))
    service.advance(901)
    service.receive(an_item())
    assert service.open_breaks() == ["LATE_SUCCESS"]
    return stuck


def stored(service: Service) -> list[Row]:
    return service.rows("SELECT guid, event_code FROM webhook_inbox")


def guid_of_stored(service: Service) -> str:
    [row] = stored(service)
    return str(row["guid"])


def test_stored_webhooks_are_listed_by_state(countersign: CommandLine, service: Service) -> None:
    service.deliver(an_item(), an_item("CODE_OF_NEXT_YEAR"))
    service.settle()

    parked = countersign("inbox", "list", "--state", "parked", "--json")
    done = countersign("inbox", "list", "--state", "done", "--json")

    codes = {row["event_code"] for row in parked.json}
    assert codes == {"AUTHORISATION", "CODE_OF_NEXT_YEAR"}
    assert done.json == []


def test_a_list_is_a_table_with_a_line_for_each_webhook(
    countersign: CommandLine, service: Service
) -> None:
    service.deliver(an_item(merchant_reference="ORDER\x1b[31m"), an_item("CODE_OF_NEXT_YEAR"))
    service.drain()

    ran = countersign("inbox", "list", "--limit", "10")

    header, *lines = ran.lines
    assert header.split()[:4] == ["received", "age", "state", "event"]
    assert len(lines) == 2
    assert any("awaits merchant_reference ORDER\\x1b[31m" in line for line in lines)
    assert any("unknown event code CODE_OF_NEXT_YEAR" in line for line in lines)
    assert "\x1b" not in ran.out


def test_a_stored_webhook_is_shown_with_its_deliveries(
    countersign: CommandLine, service: Service
) -> None:
    service.deliver(an_item())
    service.advance(120)
    service.deliver(an_item(event_date="2026-11-20T10:02:00+01:00"))
    service.advance(300)
    service.deliver(an_item())

    shown = countersign("inbox", "show", guid_of_stored(service)).json

    assert shown["deliveries"] == 3
    assert [one["seconds_since_previous"] for one in shown["delivered"]] == [None, 120, 300]
    assert [one["has_later_details"] for one in shown["delivered"]] == [False, True, False]
    assert shown["item"]["pspReference"] == PSP_REFERENCE
    assert shown["item"]["eventDate"] == "2026-11-20T10:02:00+01:00"
    assert (shown["state"], shown["scheme"]) == ("new", "item")
    assert len(shown["key"]["check_value"]) == 6


def test_a_stored_webhook_is_shown_with_its_payment_and_what_it_brought_about(
    countersign: CommandLine, service: Service, stuck: UUID
) -> None:
    service.receive(an_item())

    shown = countersign("inbox", "show", guid_of_stored(service)).json

    assert shown["payment"]["id"] == str(stuck)
    assert [event["kind"] for event in shown["events"]] == ["fact_recorded", "flow_moved"]
    assert shown["state"] == "done"


def test_a_webhook_that_can_not_be_read_is_shown_with_the_reason(
    countersign: CommandLine, service: Service
) -> None:
    service.deliver(an_item())
    service.execute("UPDATE webhook_inbox SET body = 'no JSON'")
    service.drain()

    shown = countersign("inbox", "show", guid_of_stored(service)).json

    assert shown["unreadable"] == "the body is not JSON"
    assert (shown["item"], shown["body"], shown["payment"]) == (None, None, None)
    assert "the body is not JSON" in shown["error"]


PERSONAL = {
    "shopperEmail": "s.hopper@example.com",
    "shopperIP": "198.51.100.7",
    "shopperTelephone": "+31201234567",
    "shopperSocialSecurityNumber": "078051120",
    "sepadirectdebit.iban": "NL13TEST0123456789",
    "iban": "NL13TEST0123456789",
    "bankAccount.ownerName": "S Hopper",
    "billingAddress.street": "Example Street",
}


def test_personal_data_is_masked_unless_it_is_to_be_revealed(
    countersign: CommandLine, service: Service
) -> None:
    plain = {"authCode": "123456", "shopperReference": "shopper-7"}
    service.deliver(an_item(additional=PERSONAL | plain))
    guid = guid_of_stored(service)

    masked = countersign("inbox", "show", guid)
    revealed = countersign("inbox", "show", guid, "--reveal").json

    shown = masked.json["item"]["additionalData"]
    assert {name: shown[name] for name in PERSONAL} == dict.fromkeys(PERSONAL, "[masked]")
    assert {name: shown[name] for name in plain} == plain
    assert not any(value in masked.out for value in PERSONAL.values())
    assert PERSONAL.items() <= revealed["item"]["additionalData"].items()


def test_the_exact_bytes_are_printed_and_with_personal_data_only_on_demand(
    countersign: CommandLine, service: Service
) -> None:
    service.deliver(an_item(), an_item("CAPTURE", additional=PERSONAL))
    guids = {row["event_code"]: str(row["guid"]) for row in stored(service)}

    plain = countersign("inbox", "show", guids["AUTHORISATION"], "--raw")
    refused = countersign("inbox", "show", guids["CAPTURE"], "--raw")
    revealed = countersign("inbox", "show", guids["CAPTURE"], "--raw", "--reveal")

    assert plain.out.encode() == a_webhook(an_item())
    assert (refused.code, refused.out) == (2, "")
    assert revealed.out.encode() == a_webhook(an_item("CAPTURE", additional=PERSONAL))


def test_a_webhook_that_is_not_there_is_an_error(countersign: CommandLine) -> None:
    ran = countersign("inbox", "show", str(UUID(int=1)))

    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err


def test_a_payment_is_shown_with_its_timeline(countersign: CommandLine, stuck: UUID) -> None:
    plain = countersign("payment", "show", str(stuck))
    shown = countersign("payment", "show", str(stuck), "--json").json

    assert shown["id"] == str(stuck)
    assert shown["timeline"][0]["kind"] == "payment_started"
    assert "ORDER-1001" in plain.out


def test_a_dry_sweep_prints_the_plan_and_changes_nothing(
    countersign: CommandLine, service: Service, stuck: UUID
) -> None:
    before = service.payment(stuck)

    ran = countersign("reconcile", "sweep", "--dry-run", "--json")

    [finding] = ran.json["findings"]
    assert ran.code == 0
    assert (finding["subject"], finding["action"]) == (str(stuck), "compensate")
    assert service.payment(stuck) == before


@pytest.mark.usefixtures("stuck")
def test_a_sweep_looks_from_the_time_that_it_is_told(
    countersign: CommandLine, service: Service
) -> None:
    as_of = (service.clock.at + timedelta(seconds=60)).isoformat()

    ran = countersign("reconcile", "sweep", "--dry-run", "--json", "--as-of", as_of)

    assert ran.json["findings"] == []


@pytest.mark.usefixtures("late")
def test_open_breaks_are_exit_code_3_unless_nothing_shall_fail(countersign: CommandLine) -> None:
    ran = [
        countersign("reconcile", "sweep", "--dry-run"),
        countersign("reconcile", "sweep", "--dry-run", "--fail-on", "none"),
        countersign("reconcile", "breaks", "--json"),
        countersign("reconcile", "breaks", "--fail-on", "none"),
    ]

    assert [one.code for one in ran] == [3, 0, 3, 0]
    assert [one["kind"] for one in ran[2].json] == ["LATE_SUCCESS"]


def test_a_sweep_beside_another_one_is_exit_code_75(
    countersign: CommandLine, service: Service, stuck: UUID
) -> None:
    with service.container.engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SWEEP_LOCK})")
        ran = countersign("reconcile", "sweep")

    assert (ran.code, ran.out) == (75, "")
    assert service.payment(stuck).state == "preauth"


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "--as-of", "yesterday"),
        ("sweep", "--fail-on", "everything"),
        ("sweep", "--no-such-option"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_is_exit_code_2(countersign: CommandLine, arguments: tuple[str, ...]) -> None:
    ran = countersign("reconcile", *arguments)

    assert (ran.code, ran.out) == (2, "")


@pytest.mark.usefixtures("stuck")
def test_verify_is_exit_code_0_when_all_agree(countersign: CommandLine) -> None:
    ran = countersign("verify", "--json")

    assert ran.code == 0
    assert ran.json["payments"] == 1
    assert ran.json["discrepancies"] == []


def test_verify_is_exit_code_1_when_something_does_not(
    countersign: CommandLine, service: Service, stuck: UUID
) -> None:
    service.execute("UPDATE payments SET amount_minor = 1")

    ran = countersign("verify", "--json")

    assert ran.code == 1
    assert [one["payment_id"] for one in ran.json["discrepancies"]] == [str(stuck)]


def test_doctor_is_content_with_a_sound_service(countersign: CommandLine) -> None:
    ran = countersign("doctor")

    assert ran.code == 0
    assert all(line.startswith("ok") for line in ran.lines)
    assert len(ran.lines) >= 6


def test_doctor_names_every_failed_check(countersign: CommandLine, service: Service) -> None:
    service.container.accounts.add("KeylessECOM", [])

    ran = countersign("doctor", REDIS_URL="unix:///nonexistent")

    failed = [line for line in ran.lines if line.startswith("FAIL")]
    assert ran.code == 1
    assert len(failed) == 2
    assert "KeylessECOM" in ran.out


def test_missing_settings_are_named_in_one_message(countersign: CommandLine) -> None:
    ran = countersign("verify", DATABASE_URL="", COUNTERSIGN_ENCRYPTION_KEYS="")

    assert ran.code == 1
    assert "DATABASE_URL" in ran.err
    assert "COUNTERSIGN_ENCRYPTION_KEYS" in ran.err
    assert "Traceback" not in ran.err


def test_a_database_that_is_away_is_told_in_one_line(countersign: CommandLine) -> None:
    ran = countersign("merchant", "list", DATABASE_URL="postgresql:///x?host=/nonexistent")

    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err


def test_migrating_twice_changes_nothing(countersign: CommandLine, service: Service) -> None:
    before = service.rows("SELECT * FROM alembic_version")

    codes = [countersign("migrate").code for _ in range(2)]

    assert codes == [0, 0]
    assert service.rows("SELECT * FROM alembic_version") == before


def test_every_command_has_help(countersign: CommandLine) -> None:
    ran = [countersign(*command, "--help") for command in ([], ["reconcile", "sweep"], ["up"])]

    assert [one.code for one in ran] == [0] * 3
    assert all(one.out.startswith("Usage:") for one in ran)


def test_a_sweep_that_meets_an_outside_service_that_is_away_is_exit_code_6(
    countersign: CommandLine, service: Service, stuck: UUID
) -> None:
    ran = countersign(
        "reconcile", "sweep", "--json", "--resume", COUNTERSIGN_PSP_URL="http://127.0.0.1:1"
    )

    assert ran.code == 6
    assert ran.json["outside_away"] == 1
    assert service.payment(stuck).state == "compensating"
