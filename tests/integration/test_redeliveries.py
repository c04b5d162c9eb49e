"""The same webhook again: counted, and applied again only with details that change something."""

import threading
from collections.abc import Mapping
from itertools import permutations
from uuid import UUID

import pytest

from app import failpoints
from tests.support.builders import PSP_REFERENCE, a_webhook, an_item, signed, unsigned_webhook
from tests.support.service import Service, poll
from webhooks.notifications import parse

Item = Mapping[str, object]


def at(hour: int) -> str:
    return f"2026-11-20T{hour:02}:00:00+01:00"


def a_capture(event_date: str, reason: str = "") -> Item:
    return an_item(
        "CAPTURE",
        psp_reference="CAP1",
        original_reference=PSP_REFERENCE,
        event_date=event_date,
        reason=reason,
    )


CAPTURED = a_capture(at(11))
FAILED = an_item(
    "CAPTURE_FAILED", psp_reference="CAP1", original_reference=PSP_REFERENCE, event_date=at(12)
)
CAPTURED_AGAIN = a_capture(at(13))


@pytest.fixture
def authorised(service: Service) -> UUID:
    """A payment whose money is held."""
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    return payment_id


def stored_bodies(service: Service) -> list[bytes | None]:
    found = service.rows("SELECT body FROM webhook_redeliveries ORDER BY redelivery_id")
    return [None if row["body"] is None else bytes(row["body"]) for row in found]


def test_exact_redeliveries_are_counted_and_keep_no_body(
    service: Service, authorised: UUID
) -> None:
    before = service.payment(authorised)

    service.receive(an_item(), an_item(), an_item())

    assert stored_bodies(service) == [None, None, None]
    assert service.payment(authorised) == before


def test_a_redelivery_with_a_later_date_keeps_its_body(service: Service) -> None:
    service.deliver(CAPTURED, CAPTURED_AGAIN)

    assert stored_bodies(service) == [a_webhook(CAPTURED_AGAIN)]


def test_only_what_is_later_than_everything_before_keeps_its_body(service: Service) -> None:
    first, second, third = (a_capture(at(hour)) for hour in (11, 13, 14))

    service.deliver(first, second, a_capture(at(12)), second, third)

    assert stored_bodies(service) == [a_webhook(second), None, None, a_webhook(third)]


@pytest.mark.usefixtures("authorised")
def test_the_details_of_the_latest_redelivery_count(service: Service) -> None:
    service.deliver(CAPTURED, a_capture(at(14), "later"), a_capture(at(13), "in between"))

    service.drain()

    [[fact]] = [
        [fact for fact in row["facts"] if fact["kind"] == "captured"]
        for row in service.rows("SELECT facts FROM payments")
    ]
    assert fact["occurred_at"].startswith("2026-11-20T13:00:00")  # 14:00 at the PSP


@pytest.mark.parametrize("order", list(permutations([CAPTURED, FAILED, CAPTURED_AGAIN])))
@pytest.mark.parametrize("is_drained_between", [True, False])
def test_a_capture_that_failed_and_was_repeated_ends_captured_in_any_order(
    service: Service, authorised: UUID, order: tuple[Item, ...], *, is_drained_between: bool
) -> None:
    for item in order:
        service.deliver(item)
        if is_drained_between:
            service.drain()
    service.drain()

    assert service.payment(authorised).funds.captured == 12500
    assert service.discrepancies() == []


@pytest.mark.parametrize("order", list(permutations([CAPTURED, FAILED, CAPTURED])))
def test_a_capture_that_failed_and_is_only_told_again_stays_failed(
    service: Service, authorised: UUID, order: tuple[Item, ...]
) -> None:
    service.receive(*order)

    assert service.payment(authorised).funds.captured == 0


@pytest.mark.parametrize("hour", [10, 11])
def test_a_redelivery_of_an_earlier_or_equal_date_does_not_undo_a_failure(
    service: Service, authorised: UUID, hour: int
) -> None:
    service.receive(CAPTURED, FAILED)

    service.receive(a_capture(at(hour)))

    assert stored_bodies(service) == [None]
    assert service.payment(authorised).funds.captured == 0
    assert service.work() == []


def test_an_authorisation_that_is_told_again_after_the_capture_rolls_nothing_back(
    service: Service, authorised: UUID
) -> None:
    service.receive(CAPTURED)
    path = service.path(authorised)

    service.receive(an_item(event_date=at(15)))

    assert service.payment(authorised).funds.captured == 12500
    assert service.path(authorised) == path


def test_a_redelivery_that_arrives_while_the_drain_has_its_webhook_is_applied_after_it(
    service: Service, authorised: UUID
) -> None:
    service.receive(FAILED)
    service.deliver(CAPTURED)
    thread = threading.Thread(target=service.deliver, args=(CAPTURED_AGAIN,))

    def deliver_meanwhile() -> None:
        failpoints.disarm_all()
        thread.start()
        poll(service.is_waiting_for_a_lock)

    failpoints.arm("drain.before_commit", deliver_meanwhile)
    service.container.drain.run_next()
    thread.join()
    before = service.payment(authorised).funds.captured
    service.drain()

    assert before == 0
    assert service.payment(authorised).funds.captured == 12500
    assert service.work() == []


def test_a_redelivery_that_was_stored_while_the_drain_took_its_lock_is_not_overlooked(
    service: Service, authorised: UUID
) -> None:
    service.receive(FAILED)
    service.deliver(CAPTURED)

    def store_meanwhile() -> None:
        failpoints.disarm_all()
        service.execute(
            "INSERT INTO webhook_redeliveries (guid, body, event_date, received_at)"
            " SELECT guid, :body, '2026-11-20T12:00:00Z', received_at FROM webhook_inbox"
            " WHERE event_code = 'CAPTURE'",
            body=a_webhook(CAPTURED_AGAIN),
        )

    failpoints.arm("inbox.before_details", store_meanwhile)
    service.drain()

    assert service.payment(authorised).funds.captured == 12500


def test_a_redelivery_of_a_parked_webhook_is_looked_at_with_its_new_details(
    service: Service, authorised: UUID
) -> None:
    odd = {"amount": {"value": "", "currency": "EUR"}}
    service.deliver({**CAPTURED, **odd}, CAPTURED)

    service.drain()

    assert service.payment(authorised).funds.captured == 12500
    assert [work["state"] for work in service.work()] == ["parked"]


@pytest.mark.parametrize("date", ["soon", "9999-12-31T23:59:59-23:59", "2026-13-45"])
def test_a_redelivery_whose_date_can_not_be_read_is_acknowledged_and_changes_nothing(
    service: Service, authorised: UUID, date: str
) -> None:
    service.receive(CAPTURED, FAILED)
    again = signed(CAPTURED) | {"eventDate": date}

    response = service.post_webhook(unsigned_webhook(again))
    service.drain()

    assert response.status_code == 200
    assert stored_bodies(service) == [None]
    assert service.payment(authorised).funds.captured == 0


def test_a_webhook_whose_date_can_not_be_read_happened_when_it_came(
    service: Service, authorised: UUID
) -> None:
    service.deliver(signed(CAPTURED) | {"eventDate": "soon"})

    service.drain()

    [stored] = service.rows(
        "SELECT event_date, received_at FROM webhook_inbox WHERE psp_reference = 'CAP1'"
    )
    assert stored["event_date"] == stored["received_at"]
    assert service.payment(authorised).funds.captured == 12500


def test_a_redelivery_has_the_guid_of_the_first_delivery() -> None:
    guids = {parse(a_webhook(one))[0].guid for one in (CAPTURED, CAPTURED_AGAIN)}

    assert len(guids) == 1


def test_details_that_a_restored_database_lost_are_kept_although_redis_knows_the_webhook(
    service: Service,
) -> None:
    service.deliver(a_capture(at(10)), a_capture(at(13)))
    service.settle()
    service.execute("DELETE FROM webhook_redeliveries")
    service.execute("DELETE FROM inbox_work")

    service.deliver(a_capture(at(13)))

    assert [body is not None for body in stored_bodies(service)] == [True]
    assert len(service.work()) == 1


def test_a_date_that_nobody_can_know_yet_outweighs_nothing(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    failed = an_item(
        "CAPTURE_FAILED",
        psp_reference="CAP1",
        original_reference=PSP_REFERENCE,
        event_date=at(12),
    )
    service.receive(an_item(), CAPTURED, failed)

    service.receive(a_capture("2099-01-01T00:00:00+00:00"))

    assert service.payment(payment_id).funds.captured == 0
