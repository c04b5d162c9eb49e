"""Webhooks that come before their payment: kept, joined as soon as it is here, aged (F13, F16)."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from app import failpoints
from app.errors import StoreUnavailable
from app.queries.inbox import InboxFilter, list_webhooks
from app.queries.payments import Json
from tests.support.builders import (
    ACCOUNT,
    OTHER_HMAC_KEY,
    PSP_REFERENCE,
    a_webhook,
    an_item,
)
from tests.support.commands import CommandLine
from tests.support.service import Service, poll

GRACE_SECONDS = 60

CAPTURE = an_item(
    "CAPTURE",
    psp_reference="CAP1",
    original_reference=PSP_REFERENCE,
    merchant_reference="CAPTURE-1",
)
REFUND = an_item(
    "REFUND",
    psp_reference="REF1",
    original_reference=PSP_REFERENCE,
    merchant_reference="REFUND-1",
    amount_minor=500,
)


def due(service: Service, event_code: str) -> datetime:
    [row] = service.rows(
        "SELECT w.due FROM inbox_work w JOIN webhook_inbox USING (guid) WHERE event_code = :code",
        code=event_code,
    )
    at: datetime = row["due"]
    return at


def put_off_for_days(service: Service) -> None:
    """Nobody looks at what waits, unless it is woken."""
    service.execute("UPDATE inbox_work SET due = due + interval '9 days' WHERE state = 'parked'")


def listed(service: Service, wanted: InboxFilter) -> list[Json]:
    with service.container.engine.connect() as connection:
        return list_webhooks(connection, wanted, now=service.clock.now())


def test_a_webhook_before_its_payment_is_parked(service: Service) -> None:
    service.deliver(an_item())
    service.drain()

    [work] = service.work()
    assert work["state"] == "parked"
    assert service.count("payments") == 0


def test_the_start_of_its_payment_wakes_it(service: Service) -> None:
    service.deliver(an_item())
    service.drain()
    put_off_for_days(service)

    payment_id = service.start()
    service.drain()

    assert service.payment(payment_id).funds.authorised == 12500
    assert service.work() == []


def test_a_payment_that_was_announced_before_it_started_finishes(service: Service) -> None:
    service.deliver(an_item())
    service.drain()

    payment_id = service.start()
    service.settle()

    assert service.payment(payment_id).state == "fin"


def test_another_accounts_payment_of_the_same_reference_wakes_nothing(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])
    theirs = a_webhook(an_item(merchant_account="OtherECOM"), key=OTHER_HMAC_KEY)
    service.post_webhook(theirs)
    service.drain()
    put_off_for_days(service)

    payment_id = service.start()
    service.drain()

    assert [work["state"] for work in service.work()] == ["parked"]
    assert service.payment(payment_id).funds.authorised == 0


def test_an_authorisation_that_brings_the_psp_reference_wakes_a_capture(service: Service) -> None:
    payment_id = service.start()
    service.deliver(CAPTURE)
    service.drain()
    put_off_for_days(service)

    service.deliver(an_item())
    service.drain()

    assert service.payment(payment_id).funds.captured == 12500
    assert service.work() == []


def test_a_capture_before_its_authorisation_in_one_batch_joins_in_that_batch(
    service: Service,
) -> None:
    payment_id = service.start()
    service.deliver(CAPTURE, an_item())

    service.container.drain.run_next()

    assert service.payment(payment_id).funds.captured == 12500
    assert service.work() == []


def test_a_capture_that_another_drain_parks_meanwhile_joins_at_its_next_look(
    service: Service,
) -> None:
    payment_id = service.start()
    service.deliver(an_item())

    def drain_the_capture_elsewhere() -> None:
        failpoints.disarm_all()
        service.deliver(CAPTURE)
        service.drain()

    failpoints.arm("drain.before_commit", drain_the_capture_elsewhere)
    service.drain()
    parked = [work["state"] for work in service.work()]
    service.advance(1)
    service.drain()

    assert parked == ["parked"]
    assert service.payment(payment_id).funds.captured == 12500
    assert service.work() == []


def test_a_payment_that_becomes_external_wakes_what_awaits_it(service: Service) -> None:
    service.deliver(CAPTURE)
    service.advance(GRACE_SECONDS - 1)
    service.deliver(REFUND)
    service.drain()
    service.execute(
        "UPDATE inbox_work w SET due = due + interval '9 days' FROM webhook_inbox i"
        " WHERE i.guid = w.guid AND event_code = 'REFUND'"
    )

    service.advance(2)
    service.drain()

    [payment] = service.rows("SELECT state, captured, refunded FROM payments")
    assert dict(payment) == {"state": "external", "captured": 12500, "refunded": 500}
    assert service.work() == []


def test_what_awaits_an_external_payment_joins_in_the_batch_that_keeps_it(
    service: Service,
) -> None:
    service.deliver(CAPTURE)
    service.advance(GRACE_SECONDS)
    service.deliver(REFUND)

    service.container.drain.run_next()

    [payment] = service.rows("SELECT captured, refunded FROM payments")
    assert (payment["captured"], payment["refunded"]) == (12500, 500)
    assert service.work() == []


@pytest.mark.parametrize(
    ("age_seconds", "wait_seconds"), [(0, 0.5), (30, 0.5), (600, 10), (7200, 60), (80000, 60)]
)
def test_looks_become_rarer_with_age(
    service: Service, age_seconds: int, wait_seconds: float
) -> None:
    patient = service.restarted(orphan_grace_seconds=86400)
    patient.deliver(an_item())
    patient.advance(age_seconds)

    patient.container.drain.run_next()

    assert due(service, "AUTHORISATION") - service.clock.at == timedelta(seconds=wait_seconds)
    patient.container.close()


def test_a_webhook_without_payment_is_external_after_the_grace(service: Service) -> None:
    service.deliver(an_item(merchant_reference="THEIRS-1"))
    service.drain()

    service.later(GRACE_SECONDS)

    [payment] = service.rows("SELECT state, is_ours, authorised, psp_reference FROM payments")
    assert payment["state"] == "external"
    assert not payment["is_ours"]
    assert (payment["authorised"], payment["psp_reference"]) == (12500, PSP_REFERENCE)
    assert service.work() == []


def test_an_external_payment_goes_on_learning(service: Service) -> None:
    service.deliver(an_item(merchant_reference="THEIRS-1"))
    service.later(GRACE_SECONDS)

    service.receive(CAPTURE)

    [payment] = service.rows("SELECT funds_status FROM payments")
    assert payment["funds_status"] == "captured"


def test_a_modification_of_an_unknown_payment_makes_it_external(service: Service) -> None:
    service.deliver(CAPTURE)

    service.later(GRACE_SECONDS)

    [payment] = service.rows("SELECT psp_reference, captured FROM payments")
    assert (payment["psp_reference"], payment["captured"]) == (PSP_REFERENCE, 12500)


def test_two_webhooks_of_an_unknown_payment_make_one_external_payment(service: Service) -> None:
    service.deliver(an_item(merchant_reference="THEIRS-1"), CAPTURE)
    service.advance(GRACE_SECONDS)

    def other_worker() -> None:
        with suppress(StoreUnavailable):  # it may wait for us until its patience ends
            service.drain()

    thread = threading.Thread(target=other_worker)

    def let_the_other_catch_up() -> None:
        failpoints.disarm_all()
        thread.start()
        poll(lambda: not thread.is_alive() or service.is_waiting_for_a_lock())

    failpoints.arm("drain.before_commit", let_the_other_catch_up)
    service.settle()
    thread.join()
    service.later(GRACE_SECONDS)

    [payment] = service.rows("SELECT authorised, captured FROM payments")
    assert (payment["authorised"], payment["captured"]) == (12500, 12500)


def a_dispute() -> dict[str, object]:
    """A dispute that does not tell its payment, unless its own reference is the payment's."""
    return an_item("CHARGEBACK", psp_reference="DISPUTE1", merchant_reference="X")


def a_void() -> dict[str, object]:
    """A modification that knows the payment by our reference only."""
    return an_item("TECHNICAL_CANCEL", psp_reference="VOID1")


@pytest.mark.parametrize("item", [a_dispute, a_void])
def test_a_webhook_that_does_not_name_its_payment_for_certain_makes_none_and_waits(
    service: Service, item: Callable[[], dict[str, object]]
) -> None:
    service.deliver(item())

    service.later(GRACE_SECONDS)

    [orphan] = listed(service, InboxFilter(is_orphan=True))
    assert service.count("payments") == 0
    assert orphan["awaits"]


def test_a_void_that_waited_for_long_joins_its_payment_at_once(service: Service) -> None:
    service.deliver(a_void())
    service.later(GRACE_SECONDS)

    payment_id = service.start()
    service.drain()

    kinds = [data["kind"] for data in service.events(payment_id, "fact_recorded")]
    assert kinds == ["cancelled"]
    assert service.work() == []


def test_orphans_are_listed_with_what_they_await_and_their_age(service: Service) -> None:
    service.deliver(CAPTURE, an_item("CODE_OF_NEXT_YEAR"))
    service.drain()
    service.advance(30)

    [orphan] = listed(service, InboxFilter(is_orphan=True))

    assert orphan["event_code"] == "CAPTURE"
    assert orphan["awaits"] == {"merchant_reference": None, "psp_reference": PSP_REFERENCE}
    assert orphan["age_seconds"] == 30
    assert orphan["error"] == "its payment is not here yet"


def test_webhooks_are_listed_newest_first_by_what_they_are_and_when_they_came(
    service: Service,
) -> None:
    first_at = service.clock.at
    service.deliver(CAPTURE)
    service.advance(10)
    service.deliver(REFUND)
    service.advance(10)
    service.deliver(an_item("REPORT_AVAILABLE", psp_reference="report.csv"))
    service.drain()

    def codes(wanted: InboxFilter) -> list[object]:
        return [row["event_code"] for row in listed(service, wanted)]

    assert codes(InboxFilter()) == ["REPORT_AVAILABLE", "REFUND", "CAPTURE"]
    assert codes(InboxFilter(limit=1)) == ["REPORT_AVAILABLE"]
    assert codes(InboxFilter(state="done")) == ["REPORT_AVAILABLE"]
    assert codes(InboxFilter(state="new")) == []
    assert codes(InboxFilter(event_code="REFUND")) == ["REFUND"]
    assert codes(InboxFilter(merchant_account=ACCOUNT, state="parked")) == ["REFUND", "CAPTURE"]
    assert codes(InboxFilter(merchant_account="OtherECOM")) == []
    assert codes(InboxFilter(since=first_at + timedelta(seconds=10), state="parked")) == ["REFUND"]
    assert codes(InboxFilter(until=first_at + timedelta(seconds=10))) == ["CAPTURE"]


def test_the_command_lists_orphans_by_age(countersign: CommandLine, service: Service) -> None:
    service.clock.at = service.clock.at.replace(year=2025)  # the command reads the machine's clock
    service.deliver(CAPTURE)
    service.drain()

    old = countersign("inbox", "list", "--orphans", "--older-than", "15m")
    none = countersign("inbox", "list", "--orphans", "--older-than", "9999d", "--json")
    wrong = countersign("inbox", "list", "--older-than", "soon")

    assert f"awaits psp_reference {PSP_REFERENCE}" in old.out
    assert none.json == []
    assert wrong.code == 2
