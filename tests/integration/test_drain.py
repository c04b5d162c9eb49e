"""The drain: poison, neighbours, backlogs, many at once (F19, F20). Orphans: test_orphans.py."""

from collections.abc import Mapping
from itertools import product
from random import Random

import pytest
from sqlalchemy import text

from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Row, Service, at_once
from webhooks.drain import TRIES_MAX

Item = Mapping[str, object]


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


def test_the_neighbours_of_poison_are_applied_in_the_same_run(service: Service) -> None:
    ids = [service.start(merchant_reference=f"ORDER-{number}") for number in range(5)]
    service.deliver(
        *(
            an_item(psp_reference=f"PSP{number}", merchant_reference=f"ORDER-{number}")
            for number in range(5)
        )
    )
    break_item(service, "PSP2")

    service.container.drain.run_next()

    authorised = [service.payment(payment_id).funds.authorised for payment_id in ids]
    assert authorised == [12500, 12500, 0, 12500, 12500]
    [work] = service.work()
    assert (work["state"], work["attempts"]) == ("new", 1)


def test_all_of_a_batch_may_be_poison(service: Service) -> None:
    service.deliver(*(an_item(psp_reference=f"POISON{number}") for number in range(3)))
    service.execute("UPDATE webhook_inbox SET body = '{}'")

    service.drain()

    assert [work["attempts"] for work in service.work()] == [1, 1, 1]


def test_a_suspect_is_tried_alone_and_takes_nobody_back(service: Service) -> None:
    service.start()
    service.deliver(an_item("REPORT_AVAILABLE", psp_reference="POISON1"))
    break_item(service, "POISON1")
    service.drain()
    service.advance(1)
    service.deliver(
        *(an_item("REPORT_AVAILABLE", psp_reference=f"report_{number}") for number in range(20))
    )

    runs = [service.container.drain.run_next() for _ in range(3)]

    assert runs == [True, True, False]  # the suspect, then all the others together
    [work] = service.work()
    assert work["attempts"] == 2


def test_a_suspect_is_not_starved_by_a_stream_of_new_webhooks(service: Service) -> None:
    service.deliver(an_item("REPORT_AVAILABLE", psp_reference="POISON1"))
    break_item(service, "POISON1")

    for number in range(2 * TRIES_MAX):
        service.deliver(an_item("REPORT_AVAILABLE", psp_reference=f"report_{number}"))
        service.container.drain.run_next()
        service.container.drain.run_next()
        service.advance(30)

    assert state_of(service, "POISON1") == "dead"
    assert [work["attempts"] for work in service.work()] == [TRIES_MAX]


def test_poison_that_is_delivered_again_in_a_form_that_can_be_read_is_applied(
    service: Service,
) -> None:
    payment_id = service.start()
    service.deliver(an_item())
    break_item(service, PSP_REFERENCE)
    for _try in range(TRIES_MAX):
        service.advance(3600)
        service.drain()
    dead = state_of(service, PSP_REFERENCE)

    service.deliver(an_item(event_date="2026-11-20T10:00:01+01:00"))
    service.drain()

    assert dead == "dead"
    assert service.payment(payment_id).funds.authorised == 12500
    assert service.work() == []


def test_a_locked_payment_delays_its_own_webhooks_only_and_costs_them_no_try(
    service: Service,
) -> None:
    locked = service.start(merchant_reference="ORDER-LOCKED")
    other = service.start(merchant_reference="ORDER-OTHER")
    service.deliver(
        an_item(psp_reference="LOCKED1", merchant_reference="ORDER-LOCKED"),
        an_item(
            "MANUAL_REVIEW_ACCEPT",
            psp_reference="REVIEW1",
            original_reference="LOCKED1",
            merchant_reference="ORDER-LOCKED",
        ),
        an_item(psp_reference="OTHER1", merchant_reference="ORDER-OTHER"),
    )

    with service.container.engine.connect() as holder:
        holder.execute(
            text("SELECT 1 FROM payments WHERE payment_id = :id FOR UPDATE"), {"id": locked}
        )
        service.container.drain.run_next()

        assert service.payment(other).funds.authorised == 12500
        assert service.payment(locked).funds.authorised == 0
        assert {work["attempts"] for work in service.work()} == {0}
    service.advance(2)
    service.drain()
    assert service.payment(locked).funds.authorised == 12500
    assert service.work() == []


def test_a_webhook_that_steps_back_keeps_the_error_of_its_last_try(service: Service) -> None:
    payment_id = service.start()
    service.receive(an_item(currency="USD"))
    [before] = service.work()

    with service.container.engine.connect() as holder:
        holder.execute(
            text("SELECT 1 FROM payments WHERE payment_id = :id FOR UPDATE"), {"id": payment_id}
        )
        service.advance(2 * 24 * 3600)
        service.drain()
        [after] = service.work()

    assert "USD" in before["error"]
    assert after == before


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


def a_modification(
    event_code: str, psp_reference: str, of: str, amount_minor: int, hour: int = 10
) -> Item:
    return an_item(
        event_code,
        psp_reference=psp_reference,
        original_reference=of,
        merchant_reference=psp_reference,
        amount_minor=amount_minor,
        event_date=f"2026-11-20T{hour}:00:00+01:00",
    )


def a_life(random: Random, reference: str) -> list[Item]:
    """Some webhooks of one payment: authorised, captured in parts, some failed, some refunded."""
    psp = f"PSP{reference}"
    items: list[Item] = [an_item(psp_reference=psp, merchant_reference=reference)]
    for number in range(1, random.randint(1, 4)):
        items.append(a_modification("CAPTURE", f"{psp}C{number}", psp, 1000 * number))
        if random.random() < 0.3:
            failed = a_modification("CAPTURE_FAILED", f"{psp}C{number}", psp, 1000 * number, 12)
            items.append(failed)
    if random.random() < 0.5:
        items.append(a_modification("REFUND", f"{psp}R", psp, 700))
    return items


def funds_of(service: Service, prefix: str) -> list[Row]:
    return service.rows(
        "SELECT substr(merchant_reference, 2) AS number, authorised, captured, refunded,"
        " cancelled, funds_status FROM payments WHERE merchant_reference LIKE :pattern"
        " ORDER BY number",
        pattern=f"{prefix}%",
    )


def test_batches_of_two_drains_end_in_the_same_funds_as_one_by_one(service: Service) -> None:
    random = Random(20261120)
    for prefix, number in product("TO", range(100)):
        service.start(merchant_reference=f"{prefix}{number}")
    together, one_by_one = (
        [item for number in range(100) for item in a_life(Random(number), f"{prefix}{number}")]
        for prefix in "TO"
    )
    random.shuffle(together)
    random.shuffle(one_by_one)

    for item in one_by_one:
        service.deliver(item)
        service.container.drain.run_next()
    service.deliver(*together)
    at_once([service.drain] * 2)
    service.advance(2)
    service.drain()

    assert len(together) >= 250
    assert funds_of(service, "T") == funds_of(service, "O")
    assert service.work() == []
    assert service.discrepancies() == []


def test_webhooks_that_come_while_drains_run_are_all_applied(service: Service) -> None:
    ids = [service.start(merchant_reference=f"T{number}") for number in range(20)]
    items = [item for number in range(20) for item in a_life(Random(number), f"T{number}")]
    Random(7).shuffle(items)

    def deliver() -> None:
        service.deliver(*items)

    at_once([deliver, service.drain, service.drain, service.drain])
    service.advance(2)
    service.drain()

    assert {service.payment(payment_id).funds.authorised for payment_id in ids} == {12500}
    assert service.work() == []
    assert service.discrepancies() == []
