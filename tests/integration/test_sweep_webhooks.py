"""Rules S1 and S4: stored webhooks that are not applied (F13, F16, F20)."""

from datetime import timedelta
from uuid import UUID

import pytest

from reconciliation.sweep import Action, Finding
from tests.support.builders import (
    ACCOUNT,
    OTHER_HMAC_KEY,
    PSP_REFERENCE,
    a_webhook,
    an_item,
)
from tests.support.service import Service, at_once

MINUTE = 60
HOUR = 60 * MINUTE
QUIET = 5 * MINUTE
GRACE = MINUTE

#: About a payment that is named by nothing but our own reference of it.
A_VOID_BY_REFERENCE = an_item("TECHNICAL_CANCEL", psp_reference="VOID1", merchant_reference="GONE")

#: A dispute names its payment by an original reference, and may not.
A_DISPUTE = an_item("CHARGEBACK", psp_reference="DISPUTE1", merchant_reference="")


def planned(service: Service, *, in_seconds: float = 0) -> list[Finding]:
    return service.sweep().plan(as_of=service.clock.at + timedelta(seconds=in_seconds))


def told(service: Service, *, in_seconds: float = 0) -> list[tuple[str, Action]]:
    return [(one.rule, one.action) for one in planned(service, in_seconds=in_seconds)]


def sweep_at(service: Service, seconds: float) -> list[tuple[str, Action]]:
    service.advance(seconds)
    return [(one.rule, one.action) for one in service.sweep_once()]


def a_webhook_of_another_account(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])
    theirs = a_webhook(an_item(merchant_account="OtherECOM"), key=OTHER_HMAC_KEY)
    assert service.post_webhook(theirs).status_code == 200


def poisoned(service: Service) -> UUID:
    """Store a webhook whose body can't be read again."""
    service.deliver(an_item())
    service.execute("UPDATE webhook_inbox SET body = '[]'")
    [row] = service.rows("SELECT guid FROM webhook_inbox")
    guid: UUID = row["guid"]
    return guid


def test_s1_a_webhook_is_found_two_minutes_after_it_was_stored(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(an_item())

    not_yet = told(service, in_seconds=2 * MINUTE - 1)
    then = told(service, in_seconds=2 * MINUTE)
    sweep_at(service, 2 * MINUTE)

    assert not_yet == []
    assert then == [("S1", Action.PROCESS)]
    assert service.work() == []
    assert service.payment(payment_id).funds.authorised == 12500


def test_s1_exactly_what_was_found_is_applied_and_nothing_else(service: Service) -> None:
    service.start(merchant_reference="ORDER-1")
    service.start(merchant_reference="ORDER-2")
    service.deliver(an_item(psp_reference="PSP1", merchant_reference="ORDER-1"))
    service.advance(2 * MINUTE)
    sweep = service.sweep()
    findings = sweep.plan(as_of=service.clock.at)
    service.deliver(an_item(psp_reference="PSP2", merchant_reference="ORDER-2"))

    sweep.carry_out(findings, as_of=service.clock.at)

    [left] = service.rows("SELECT psp_reference FROM inbox_work JOIN webhook_inbox USING (guid)")
    assert left["psp_reference"] == "PSP2"


def test_s1_a_sweep_of_one_account_applies_nothing_of_another(service: Service) -> None:
    service.start()
    service.deliver(an_item())
    a_webhook_of_another_account(service)
    service.advance(HOUR)
    sweep = service.sweep()

    findings = sweep.plan(as_of=service.clock.at, merchant_account=ACCOUNT)
    sweep.carry_out(findings, as_of=service.clock.at)

    [left] = service.rows("SELECT merchant_account FROM inbox_work JOIN webhook_inbox USING (guid)")
    assert left["merchant_account"] == "OtherECOM"
    assert {finding.merchant_account for finding in findings} == {ACCOUNT}


def test_s1_a_webhook_that_fails_is_tried_as_often_as_ever_and_then_told_as_dead(
    service: Service,
) -> None:
    guid = poisoned(service)

    found = [sweep_at(service, 10 * MINUTE) for _ in range(8)]
    not_yet = told(service, in_seconds=-1)
    dead = planned(service)

    assert found == [[("S1", Action.PROCESS)]] * 8
    assert [work["state"] for work in service.work()] == ["dead"]
    assert not_yet == [("S1", Action.ESCALATE)]
    assert [(one.guid, one.action) for one in dead] == [(guid, Action.ESCALATE)]
    assert dead[0].why.startswith("dead: MalformedNotification")


def test_s1_a_dead_webhook_is_told_by_every_sweep_and_tried_by_none(service: Service) -> None:
    poisoned(service)
    service.execute("UPDATE inbox_work SET state = 'dead', attempts = 8")
    before = service.rows("SELECT * FROM inbox_work")

    found = [sweep_at(service, HOUR) for _ in range(2)]

    assert found == [[("S1", Action.ESCALATE)]] * 2
    assert service.rows("SELECT * FROM inbox_work") == before


def test_s1_a_webhook_that_failed_is_left_alone_for_five_minutes_after_its_next_try_is_due(
    service: Service,
) -> None:
    poisoned(service)
    service.drain()
    [row] = service.rows("SELECT due FROM inbox_work")
    due_in = (row["due"] - service.clock.at).total_seconds()

    assert told(service, in_seconds=due_in + QUIET - 1) == []
    assert told(service, in_seconds=due_in + QUIET) == [("S1", Action.PROCESS)]


def test_s1_poison_takes_no_neighbour_along(service: Service) -> None:
    """F19."""
    poisoned(service)
    payment_id = service.start(merchant_reference="ORDER-2")
    service.deliver(an_item(psp_reference="PSP2", merchant_reference="ORDER-2"))

    sweep_at(service, HOUR)

    assert service.payment(payment_id).funds.authorised == 12500
    assert [work["attempts"] for work in service.work()] == [1]


def test_s1_sweeps_and_a_worker_at_once_apply_a_webhook_once(service: Service) -> None:
    """F25."""
    payment_id = service.start()
    service.settle()
    service.deliver(an_item())
    service.advance(2 * MINUTE)

    def sweep() -> None:
        service.sweep_once()

    at_once([sweep, sweep, service.settle])
    service.later(1)  # whoever found the payment locked has stepped back for a moment

    told_of = service.events(payment_id, "fact_recorded")
    assert [fact["kind"] for fact in told_of].count("authorised") == 1
    assert service.payment(payment_id).state == "fin"


def test_s4_an_orphan_is_looked_at_again_when_nobody_did_after_its_grace(service: Service) -> None:
    service.deliver(an_item())
    service.drain()

    not_yet = told(service, in_seconds=QUIET)
    then = told(service, in_seconds=QUIET + 1)
    sweep_at(service, QUIET + 1)

    assert not_yet == []
    assert then == [("S4", Action.PROCESS)]
    assert service.work() == []
    [payment] = service.rows("SELECT state, psp_reference FROM payments")
    assert payment == {"state": "external", "psp_reference": PSP_REFERENCE}


def test_s4_an_orphan_joins_a_payment_that_came_while_nobody_worked(service: Service) -> None:
    service.deliver(an_item())
    service.drain()
    payment_id = service.start()

    sweep_at(service, HOUR)

    assert service.payment(payment_id).funds.authorised == 12500
    assert service.count("payments") == 1


def test_s4_an_external_payment_is_no_case(service: Service) -> None:
    """It is in the ledger. A merchant who also takes payments elsewhere is not alarmed by each."""
    service.deliver(an_item())
    service.drain()
    service.later(2 * GRACE)

    found = sweep_at(service, 24 * HOUR)

    assert found == []
    assert service.open_breaks() == []


@pytest.mark.parametrize(
    ("item", "subject"), [(A_VOID_BY_REFERENCE, "GONE"), (A_DISPUTE, "DISPUTE1")]
)
def test_s4_an_orphan_that_makes_no_payment_is_a_case_after_an_hour(
    service: Service, item: dict[str, object], subject: str
) -> None:
    service.deliver(item)
    service.drain()
    service.later(2 * GRACE)  # the look after the grace

    not_yet = told(service, in_seconds=HOUR - 2 * GRACE - 1)
    then = told(service, in_seconds=HOUR - 2 * GRACE)
    sweep_at(service, HOUR - 2 * GRACE)
    opened = service.rows(
        "SELECT kind, merchant_account, subject, payment_id, amount_minor, currency FROM breaks"
    )

    assert not_yet == []
    assert then == [("S4", Action.ESCALATE)]
    assert opened == [
        {
            "kind": "MISSING_IN_LEDGER",
            "merchant_account": ACCOUNT,
            "subject": subject,
            "payment_id": None,
            "amount_minor": 12500,
            "currency": "EUR",
        }
    ]
    assert [work["state"] for work in service.work()] == ["parked"]


def test_s4_one_unknown_payment_is_one_case_however_many_webhooks_tell_of_it(
    service: Service,
) -> None:
    service.deliver(
        A_DISPUTE,
        an_item("CHARGEBACK_REVERSED", psp_reference="DISPUTE1", merchant_reference=""),
        an_item("SECOND_CHARGEBACK", psp_reference="DISPUTE1", merchant_reference=""),
    )
    service.drain()
    service.later(2 * GRACE)

    found = sweep_at(service, HOUR)
    again = told(service)

    assert found == [("S4", Action.ESCALATE)]
    assert again == []
    assert service.open_breaks() == ["MISSING_IN_LEDGER"]


def test_s4_sweeps_at_once_open_one_case(service: Service) -> None:
    service.deliver(A_VOID_BY_REFERENCE)
    service.drain()
    service.later(2 * GRACE)
    service.advance(HOUR)

    at_once([service.sweep_once] * 3)

    assert service.count("breaks") <= 1
    service.sweep_once()
    assert service.count("breaks") == 1


def test_s4_a_payment_that_comes_at_the_last_moment_is_no_case(service: Service) -> None:
    service.deliver(A_VOID_BY_REFERENCE)
    service.drain()
    service.later(2 * GRACE)
    service.advance(HOUR)
    sweep = service.sweep()
    findings = sweep.plan(as_of=service.clock.at)
    payment_id = service.start(merchant_reference="GONE")

    sweep.carry_out(findings, as_of=service.clock.at)

    assert [finding.action for finding in findings] == [Action.ESCALATE]
    assert service.open_breaks() == []
    assert service.payment(payment_id).funds.facts


def test_s4_an_orphan_without_an_amount_is_a_case_of_no_currency(service: Service) -> None:
    item = dict(A_VOID_BY_REFERENCE)
    del item["amount"]
    service.deliver(item)
    service.drain()
    service.later(2 * GRACE)

    sweep_at(service, HOUR)

    [opened] = service.rows("SELECT amount_minor, currency FROM breaks")
    assert opened == {"amount_minor": 0, "currency": "XXX"}
