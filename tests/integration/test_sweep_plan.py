"""A plan follows from the rows and from the time it looks from, and from nothing else."""

from datetime import timedelta

import pytest

from app.clock import SystemClock
from app.errors import GatewayTimeout
from reconciliation.sweep import RULES, Action, Finding
from tests.support.builders import an_item
from tests.support.commands import CommandLine
from tests.support.service import Crash, Service, at_once, crash

HOUR = 3600
DAY = 24 * HOUR

#: What a plan is made of.
TABLES = (
    "payments",
    "payment_events",
    "saga_instances",
    "saga_steps",
    "commands",
    "responses",
    "reviews",
    "inbox_work",
    "webhook_inbox",
)


@pytest.fixture
def trouble(service: Service) -> Service:
    """Something of nearly every rule."""
    for number in range(3):
        service.start(merchant_reference=f"ORDER-{number}")
    service.settle()
    service.receive(an_item(merchant_reference="ORDER-1", psp_reference="PSP1"))
    service.outside.booking.says_yes = False
    service.outside.psp.failures = [GatewayTimeout("no answer")] * 100
    service.receive(an_item(merchant_reference="ORDER-2", psp_reference="PSP2"))
    service.start(merchant_reference="ORDER-3")
    service.settle()
    service.deliver(
        an_item("REPORT_AVAILABLE", psp_reference="settlement_detail_report_batch_1.csv"),
        an_item("REPORT_AVAILABLE", psp_reference="settlement_detail_report_batch_3.csv"),
        an_item("TECHNICAL_CANCEL", psp_reference="VOID1", merchant_reference="GONE"),
    )
    service.settle()
    service.deliver(*(an_item(merchant_reference=f"THEIRS-{one}") for one in range(3)))
    service.start(merchant_reference="ORDER-4")
    return service


def plan(service: Service, *, in_seconds: float) -> list[Finding]:
    return service.sweep().plan(as_of=service.clock.at + timedelta(seconds=in_seconds))


def shuffle_rows(service: Service) -> None:
    """Store every row anew, in another order."""
    with service.container.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SELECT setseed(0.5)")
        for table in TABLES:
            connection.exec_driver_sql(
                f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM {table} ORDER BY random()"
            )
            connection.exec_driver_sql(f"DELETE FROM {table}")
            connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM kept")
            connection.exec_driver_sql("DROP TABLE kept")


@pytest.mark.parametrize("in_seconds", [HOUR, 2 * DAY, 30 * DAY])
def test_the_order_in_which_rows_were_stored_does_not_matter(
    trouble: Service, in_seconds: int
) -> None:
    before = plan(trouble, in_seconds=in_seconds)
    shuffle_rows(trouble)

    assert plan(trouble, in_seconds=in_seconds) == before
    assert {finding.rule for finding in before} >= {"S1", "S2", "S3", "S4", "S7", "S10"}


def test_the_time_at_which_it_is_made_does_not_matter(trouble: Service) -> None:
    as_of = trouble.clock.at + timedelta(days=2)
    before = trouble.sweep().plan(as_of=as_of)

    trouble.advance(HOUR)

    assert trouble.sweep().plan(as_of=as_of) == before


def test_two_processes_make_the_same_plan(trouble: Service, countersign: CommandLine) -> None:
    as_of = (trouble.clock.at + timedelta(days=2)).isoformat()
    command = ("reconcile", "sweep", "--dry-run", "--json", "--as-of", as_of)

    first = countersign(*command)
    shuffle_rows(trouble)
    second = countersign(*command)

    expected = [
        finding.as_json(trouble.clock.at + timedelta(days=2))
        for finding in plan(trouble, in_seconds=2 * DAY)
    ]
    assert first.json == second.json
    assert first.json["findings"] == expected


def test_findings_are_told_oldest_first(trouble: Service) -> None:
    trouble.advance(HOUR)
    trouble.start(merchant_reference="ORDER-9")

    ages = [finding.since for finding in plan(trouble, in_seconds=2 * DAY)]

    assert ages == sorted(ages)
    assert len(set(ages)) > 1


def test_a_limit_takes_the_oldest_and_the_next_sweep_finds_the_rest(service: Service) -> None:
    started = []
    for number in range(5):
        started.append(str(service.start(merchant_reference=f"ORDER-{number}")))
        service.advance(1)
    service.advance(HOUR)
    sweep = service.sweep()

    rounds = []
    for _round in range(3):
        findings = sweep.plan(as_of=service.clock.at, limit=2)
        sweep.carry_out(findings, as_of=service.clock.at)
        rounds.append([finding.subject for finding in findings])

    assert rounds == [started[:2], started[2:4], started[4:]]


def test_payments_that_are_only_waiting_use_up_no_limit(service: Service) -> None:
    """A webhook that is of no use to a payment wakes it, and nobody puts it to sleep again."""
    for number in range(3):
        service.start(merchant_reference=f"ORDER-{number}")
    service.settle()
    service.execute("UPDATE saga_instances SET due = :now", now=service.clock.at)
    stuck = service.start(merchant_reference="ORDER-9")
    service.advance(600)

    [finding] = service.sweep().plan(as_of=service.clock.at, limit=1)

    assert finding.payment_id == stuck


def test_a_payment_that_our_rules_stumble_over_is_told_and_holds_up_no_other(
    service: Service,
) -> None:
    broken = service.start(merchant_reference="ORDER-1")
    sound = service.start(merchant_reference="ORDER-2")
    service.execute("UPDATE payments SET details = '{}' WHERE payment_id = :id", id=broken)
    service.advance(600)

    findings = {finding.payment_id: finding for finding in service.sweep_once()}

    assert findings[broken].action is Action.ESCALATE
    assert findings[broken].why == "can't be decided: KeyError"
    assert service.payment(sound).state == "preauth"


def test_a_sweep_that_is_killed_is_finished_by_the_next_one(service: Service) -> None:
    """F59."""
    payments = [service.start(merchant_reference=f"ORDER-{number}") for number in range(4)]
    service.advance(600)
    service.outside.psp.before_answer = crash
    with pytest.raises(Crash):
        service.sweep_once()
    service.outside.psp.before_answer = lambda: None

    service.advance(service.lease_seconds)
    service.sweep_once()
    service.advance(300)
    service.sweep_once()

    assert {service.payment(one).state for one in payments} == {"preauth"}
    assert service.outside.psp.asked("authorise") == 5
    assert len(service.outside.psp.effects) == 4


def test_sweeps_beside_workers_do_everything_once(service: Service) -> None:
    """F25: whoever claims a payment moves it, and the others go by."""
    payments = [service.start(merchant_reference=f"ORDER-{number}") for number in range(12)]
    service.advance(600)

    def sweep() -> None:
        service.sweep_once()

    at_once([sweep, service.settle, sweep, service.settle])
    service.later(1)  # whoever found a payment locked has stepped back for a moment
    service.deliver(
        *(
            an_item(merchant_reference=f"ORDER-{number}", psp_reference=f"PSP{number}")
            for number in range(12)
        )
    )
    service.advance(600)
    at_once([sweep, service.settle, sweep, service.settle])
    service.later(1)  # whoever found a payment locked has stepped back for a moment

    assert [service.payment(one).state for one in payments] == ["fin"] * 12
    assert service.outside.psp.asked("authorise") == 12
    assert service.outside.booking.asked("confirm") == 12
    assert service.outside.mail.asked("send") == 12
    assert service.discrepancies() == []


def test_every_rule_is_in_the_table(countersign: CommandLine) -> None:
    listed = countersign("reconcile", "rules", "--json").json
    plain = countersign("reconcile", "rules")

    assert list(RULES) == [f"S{number}" for number in range(1, 11)]
    assert [row["rule"] for row in listed] == list(RULES)
    assert all(all(row.values()) for row in listed)
    assert plain.code == 0
    assert "FILE_GAP at 2 d" in plain.out


def test_the_plan_for_people_names_what_they_ask(
    service: Service, countersign: CommandLine
) -> None:
    payment_id = service.start()
    as_of = service.clock.at + timedelta(hours=2)

    ran = countersign("reconcile", "sweep", "--dry-run", "--as-of", as_of.isoformat())

    heading, row = ran.lines
    assert heading.split("  ")[0] == "rule"
    for name in ("payment", "state", "age", "action", "why", "next look"):
        assert name in heading
    for value in ("S2", str(payment_id), "fraud_check", "2 h", "retry", "2026-11-20T11:05:00"):
        assert value in row
    assert "1 found: 1 retry" in ran.err


def test_a_real_sweep_from_the_past_is_refused_and_a_dry_one_looks(
    service: Service, countersign: CommandLine
) -> None:
    """What was right to ask then (an authorisation, say) may not be wanted any more."""
    service.start()
    past = "2026-01-01T00:00:00Z"

    real = countersign("reconcile", "sweep", "--as-of", past)
    dry = countersign("reconcile", "sweep", "--dry-run", "--json", "--as-of", past)

    assert (real.code, real.out) == (2, "")
    assert "--dry-run" in real.err
    assert (dry.code, dry.json["findings"]) == (0, [])


@pytest.mark.parametrize("as_of", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_beyond_all_reason_is_refused(countersign: CommandLine, as_of: str) -> None:
    ran = countersign("reconcile", "sweep", "--dry-run", "--as-of", as_of)

    assert (ran.code, ran.out) == (2, "")


def test_a_case_makes_the_sweep_end_with_exit_code_3(
    service: Service, countersign: CommandLine
) -> None:
    service.clock.at = SystemClock().now() - timedelta(days=3)
    service.deliver(
        an_item("REPORT_AVAILABLE", psp_reference="settlement_detail_report_batch_1.csv"),
        an_item("REPORT_AVAILABLE", psp_reference="settlement_detail_report_batch_3.csv"),
    )
    service.settle()

    dry = countersign("reconcile", "sweep", "--dry-run", "--json")
    ran = countersign("reconcile", "sweep", "--json")
    breaks = countersign("reconcile", "breaks", "--json", "--fail-on", "none").json

    assert (dry.code, ran.code) == (0, 3)
    assert [finding["opens"] for finding in dry.json["findings"]] == ["FILE_GAP"]
    assert [(one["kind"], one["subject"]) for one in breaks] == [
        ("FILE_GAP", "settlement_detail_report_batch_2.csv")
    ]
