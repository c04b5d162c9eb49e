"""One webhook however often and however much at once it is delivered (F10, F11, F54, F55)."""

import signal
from collections.abc import Iterator
from functools import partial

import pytest
from redis import Redis

from app.embedded import EmbeddedRedis
from tests.support.builders import a_webhook, an_item, signed, unsigned_webhook
from tests.support.service import Service, at_once
from webhooks.notifications import parse


@pytest.fixture
def on_own_redis(service: Service, redis_process: EmbeddedRedis) -> Iterator[Service]:
    """The service on a Redis of its own."""
    settings = service.container.settings.model_validate(
        service.container.settings.model_dump() | {"redis_url": redis_process.url}
    )
    other = service.restarted(redis_url=settings.redis_url)
    yield other
    other.container.close()


def assert_stored_once(service: Service, *, deliveries: int) -> None:
    [stored] = service.rows("SELECT guid FROM webhook_inbox")
    assert service.count("inbox_work") == 1
    assert service.count("webhook_redeliveries") == deliveries - 1
    assert stored["guid"] == parse(a_webhook())[0].guid


def test_thirty_deliveries_at_once_change_the_payment_once(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    before = service.payment(payment_id)

    statuses = at_once([lambda: service.post_webhook(a_webhook()).status_code] * 30)

    assert statuses == [200] * 30
    assert_stored_once(service, deliveries=30)
    service.drain()
    after = service.payment(payment_id)
    assert after.funds.authorised == 12500
    assert len(service.events(payment_id, "fact_recorded")) == 2  # pending, authorised
    assert after.version == before.version + 2  # the fact, and the move that follows from it


def test_a_delivery_after_the_payment_is_done_changes_nothing(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    before = service.payment(payment_id)

    service.receive(an_item(), an_item())

    assert service.payment(payment_id) == before
    assert service.count("webhook_redeliveries") == 2


def test_the_same_outcome_with_other_unsigned_fields_is_the_same_webhook(service: Service) -> None:
    first = signed(an_item())
    again = {**first, "reason": "other", "eventDate": "2026-11-20T11:00:00+01:00", "new": 1}

    service.post_webhook(unsigned_webhook(first))
    response = service.post_webhook(unsigned_webhook(again))

    assert response.status_code == 200
    assert_stored_once(service, deliveries=2)


def test_another_outcome_of_the_same_payment_is_another_webhook(service: Service) -> None:
    service.deliver(an_item(success=False), an_item(success=True))

    assert service.count("webhook_inbox") == 2
    assert service.count("webhook_redeliveries") == 0


def test_one_item_twice_in_one_body_is_one_webhook(service: Service) -> None:
    response = service.post_webhook(a_webhook(an_item(), an_item()))

    assert response.status_code == 200
    assert_stored_once(service, deliveries=2)


def test_webhooks_with_the_same_items_in_other_orders_do_not_stand_in_each_others_way(
    service: Service,
) -> None:
    items = [an_item("CAPTURE", psp_reference=f"CAP{number}") for number in range(40)]
    bodies = [a_webhook(*items), a_webhook(*reversed(items))]

    def deliver(body: bytes) -> int:
        return service.post_webhook(body).status_code

    statuses = at_once([partial(deliver, body) for body in bodies * 6])

    assert statuses == [200] * 12
    assert service.count("webhook_inbox") == 40


def test_a_redelivery_after_redis_forgot_everything_is_a_redelivery(
    service: Service, redis_url: str
) -> None:
    service.deliver(an_item())
    with Redis.from_url(redis_url) as redis:
        redis.flushall()

    service.deliver(an_item())

    assert_stored_once(service, deliveries=2)


def test_deliveries_at_once_while_redis_is_flushed_are_stored_once(
    service: Service, redis_url: str
) -> None:
    def deliver() -> int:
        return service.post_webhook(a_webhook()).status_code

    def flush() -> int:
        with Redis.from_url(redis_url) as redis:
            for _ in range(20):
                redis.flushall()
        return 200

    statuses = at_once([*[deliver] * 10, flush])

    assert set(statuses) == {200}
    assert_stored_once(service, deliveries=10)


def test_a_webhook_that_only_redis_knows_is_stored(service: Service) -> None:
    service.container.seen.remember([parse(a_webhook())[0].guid])

    service.deliver(an_item())

    assert_stored_once(service, deliveries=1)


def test_redis_is_told_of_what_is_stored(service: Service) -> None:
    service.deliver(an_item())

    guid = parse(a_webhook())[0].guid
    assert list(service.container.seen.seen([guid])) == [guid]


def test_with_redis_gone_every_webhook_is_stored_once(
    on_own_redis: Service, redis_process: EmbeddedRedis
) -> None:
    on_own_redis.deliver(an_item("REPORT_AVAILABLE"))
    redis_process.stop()

    statuses = at_once([lambda: on_own_redis.post_webhook(a_webhook()).status_code] * 8)

    assert statuses == [200] * 8
    assert on_own_redis.count("webhook_inbox") == 2
    assert on_own_redis.count("webhook_redeliveries") == 7


def test_with_redis_hanging_every_webhook_is_stored_once(
    on_own_redis: Service, redis_process: EmbeddedRedis
) -> None:
    redis_process.process.send_signal(signal.SIGSTOP)

    statuses = at_once([lambda: on_own_redis.post_webhook(a_webhook()).status_code] * 8)

    assert statuses == [200] * 8
    assert_stored_once(on_own_redis, deliveries=8)


def test_without_redis_the_service_is_ready_and_says_so(
    on_own_redis: Service, redis_process: EmbeddedRedis
) -> None:
    redis_process.stop()

    response = on_own_redis.client.get("/health/ready")

    assert response.status_code == 200
    assert response.json is not None
    assert response.json["checks"]["redis"].startswith("unavailable")


def test_two_processes_store_one_webhook_once(service: Service, restarted: Service) -> None:
    def deliver_to(process: Service) -> int:
        return process.post_webhook(a_webhook()).status_code

    statuses = at_once([partial(deliver_to, one) for one in (service, restarted) * 8])

    assert statuses == [200] * 16
    assert_stored_once(service, deliveries=16)
