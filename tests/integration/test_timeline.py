"""A payment's timeline tells every delivery of its webhooks, what was refused, and what waits."""

from typing import Any
from uuid import UUID

from app.queries.timeline import DELIVERIES_MAX, timeline
from tests.support.builders import OTHER_HMAC_KEY, PSP_REFERENCE, a_webhook, an_item
from tests.support.service import Service


def items(service: Service, payment_id: UUID, kind: str) -> list[Any]:
    with service.container.engine.connect() as connection:
        told: Any = timeline(connection, payment_id)["items"]
    return [item for item in told if item["kind"] == kind]


def an_authorised(service: Service) -> UUID:
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    return payment_id


def test_a_webhook_tells_how_often_it_came(service: Service) -> None:
    payment_id = an_authorised(service)
    for gap in (120, 300):
        service.advance(gap)
        service.deliver(an_item())

    [received] = items(service, payment_id, "webhook_received")

    assert received["title"] == "Webhook AUTHORISATION true received, 3 times in all"
    assert received["data"]["deliveries"] == 3
    assert received["data"]["last_delivered_at"] == "2026-11-20T09:07:00.000000Z"
    assert received["data"]["state"] == "done"


def test_every_redelivery_tells_when_it_came(service: Service) -> None:
    payment_id = an_authorised(service)
    for gap in (120, 300):
        service.advance(gap)
        service.deliver(an_item())

    again = items(service, payment_id, "webhook_redelivered")

    assert [item["at"] for item in again] == [
        "2026-11-20T09:02:00.000000Z",
        "2026-11-20T09:07:00.000000Z",
    ]
    assert [item["data"]["delivery"] for item in again] == [2, 3]
    assert [item["data"]["seconds_since_previous"] for item in again] == [120, 300]


def test_a_webhook_that_is_sent_for_ever_does_not_fill_the_page(service: Service) -> None:
    payment_id = an_authorised(service)
    for _again in range(DELIVERIES_MAX + 5):
        service.advance(1)
        service.deliver(an_item())

    [received] = items(service, payment_id, "webhook_received")

    assert received["data"]["deliveries"] == DELIVERIES_MAX + 6
    assert len(items(service, payment_id, "webhook_redelivered")) == DELIVERIES_MAX - 1


def test_what_was_refused_under_a_webhooks_name_is_told_as_claimed(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))
    service.advance(120)
    service.receive(an_item())

    [refusal] = items(service, payment_id, "webhook_refused")

    assert refusal["title"] == (
        "Webhook AUTHORISATION true refused: invalid signature (claimed, not verified)"
    )
    assert refusal["at"] == "2026-11-20T09:00:00.000000Z"


def test_a_webhook_of_the_payment_that_is_not_applied_is_told(service: Service) -> None:
    payment_id = an_authorised(service)
    service.advance(1)
    service.deliver(an_item("NEVER_HEARD_OF", psp_reference=PSP_REFERENCE))

    [_applied, waits] = items(service, payment_id, "webhook_received")

    assert waits["title"] == "Webhook NEVER_HEARD_OF true received, not applied: new"
    assert waits["data"]["state"] == "new"
