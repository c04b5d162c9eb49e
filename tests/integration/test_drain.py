"""The drain: orphans, poison, neighbours, many at once (F13, F16, F19, F20)."""

import threading
from contextlib import suppress

import pytest

from app import failpoints
from app.errors import StoreUnavailable
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service, at_once, poll
from webhooks.drain import TRIES_MAX

GRACE_SECONDS = 60


def break_item(service: Service, psp_reference: str) -> None:
    """Make a stored webhook one that no release can read."""
    service.execute(
        "UPDATE webhook_inbox SET body = '{}' WHERE psp_reference = :reference",
        reference=psp_reference,
    )


def state_of(service: Service, psp_reference: str) -> str:
    [row] = service.rows(
        "SELECT coalesce(w.state, 'done') AS state FROM webhook_inbox i"
        " LEFT JOIN inbox_work w USING (guid) WHERE i.psp_reference = :reference",
        reference=psp_reference,
    )
    return str(row["state"])


def test_a_webhook_before_its_payment_is_parked(service: Service) -> None:
    service.deliver(an_item())
    service.drain()

    [work] = service.work()
    assert work["state"] == "parked"
    assert service.count("payments") == 0


def test_a_parked_webhook_joins_its_payment_when_that_appears(service: Service) -> None:
    service.deliver(an_item())
    service.drain()
    payment_id = service.start()

    service.later(GRACE_SECONDS - 1)
    service.settle()

    assert service.payment(payment_id).state == "fin"
    assert service.work() == []


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

    service.receive(an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE))

    [payment] = service.rows("SELECT funds_status FROM payments")
    assert payment["funds_status"] == "captured"


def test_a_modification_of_an_unknown_payment_makes_it_external(service: Service) -> None:
    service.deliver(
        an_item(
            "CAPTURE",
            psp_reference="CAP1",
            original_reference=PSP_REFERENCE,
            merchant_reference="OTHER",
        )
    )
    service.later(GRACE_SECONDS)

    [payment] = service.rows("SELECT psp_reference, captured FROM payments")
    assert (payment["psp_reference"], payment["captured"]) == (PSP_REFERENCE, 12500)


def test_two_webhooks_of_an_unknown_payment_make_one_external_payment(service: Service) -> None:
    service.deliver(
        an_item(merchant_reference="THEIRS-1"),
        an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE),
    )
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


def test_poison_is_given_up_after_bounded_tries(service: Service) -> None:
    service.deliver(an_item())
    break_item(service, PSP_REFERENCE)

    for _try in range(TRIES_MAX + 3):
        service.later(3600)

    [work] = service.work()
    assert (work["state"], work["attempts"]) == ("dead", TRIES_MAX)
    assert "MalformedNotification" in work["error"]


def test_poison_neither_stops_nor_delays_its_neighbours(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(an_item("CAPTURE", psp_reference="POISON1", merchant_reference="X"), an_item())
    break_item(service, "POISON1")

    service.settle()

    assert service.payment(payment_id).state == "fin"
    assert state_of(service, "POISON1") == "new"


def test_dead_webhooks_are_never_claimed_again(service: Service) -> None:
    service.deliver(an_item())
    service.execute("UPDATE inbox_work SET state = 'dead'")

    service.later(30 * 24 * 3600)

    [work] = service.work()
    assert (work["state"], work["attempts"]) == ("dead", 0)


@pytest.mark.parametrize("reference", ["test_AUTHORISATION_1", "testnotification_7"])
def test_a_test_notification_touches_nothing(service: Service, reference: str) -> None:
    payment_id = service.start()
    service.settle()
    before = service.payment(payment_id)

    service.receive(an_item(psp_reference=reference))

    assert service.payment(payment_id) == before
    assert service.work() == []


def test_another_currency_is_parked_for_a_person(service: Service) -> None:
    payment_id = service.start()
    service.settle()

    service.receive(an_item(currency="USD"))

    [work] = service.work()
    assert work["state"] == "parked"
    assert "USD" in work["error"]
    assert service.payment(payment_id).funds.authorised == 0


def test_a_webhook_about_no_payment_is_done_at_once(service: Service) -> None:
    service.receive(an_item("REPORT_AVAILABLE", psp_reference="settlement_report_1.csv"))

    assert service.work() == []
    assert service.count("payments") == 0


def test_a_backlog_drains_in_the_order_of_arrival(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    for number in range(12):
        service.deliver(
            an_item(
                "NOTIFICATION_OF_FRAUD",
                psp_reference=f"D{number}",
                original_reference=PSP_REFERENCE,
            )
        )
        service.advance(1)

    service.drain()

    applied = service.rows(
        "SELECT i.psp_reference FROM payment_events e JOIN webhook_inbox i"
        " ON e.cause = 'webhook:' || i.guid WHERE e.payment_id = :id ORDER BY e.seq",
        id=payment_id,
    )
    assert [row["psp_reference"] for row in applied] == [f"D{number}" for number in range(12)]


def test_two_drains_apply_each_webhook_once(service: Service) -> None:
    ids = [service.start(merchant_reference=f"ORDER-{number}") for number in range(10)]
    service.settle()
    service.deliver(
        *(
            an_item(psp_reference=f"PSP{number}", merchant_reference=f"ORDER-{number}")
            for number in range(10)
        )
    )

    at_once([service.drain] * 4)

    for payment_id in ids:
        kinds = [data["kind"] for data in service.events(payment_id, "fact_recorded")]
        assert kinds == ["pending", "authorised"]
    assert service.work() == []


def test_two_drains_of_one_payment_lose_nothing(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(
        an_item(),
        *(
            an_item(
                "CAPTURE",
                psp_reference=f"CAP{number}",
                original_reference=PSP_REFERENCE,
                amount_minor=100,
            )
            for number in range(20)
        ),
    )

    at_once([service.drain] * 4)

    assert service.payment(payment_id).funds.captured == 2000
    assert service.discrepancies() == []
