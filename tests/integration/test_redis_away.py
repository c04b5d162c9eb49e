"""A Redis that hangs costs one webhook its patience, and the others nothing (F55, promise 1)."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from app.persistence import seen
from tests.support.builders import an_item
from tests.support.peers import a_peer, silent
from tests.support.service import Service


@dataclass
class HangingRedis:
    """Takes connections and says nothing.

    Attributes:
        port: Where it listens.
        asked: How often it was asked.
    """

    port: int = 0
    asked: int = field(default=0)

    def talk(self, connection: socket.socket) -> None:
        self.asked += 1
        silent(connection)


@pytest.fixture
def redis() -> Iterator[HangingRedis]:
    hanging = HangingRedis()
    with a_peer(hanging.talk) as hanging.port:
        yield hanging


@pytest.fixture
def on_it(service: Service, redis: HangingRedis) -> Iterator[Service]:
    """The service on the Redis that hangs."""
    other = service.restarted(redis_url=SecretStr(f"redis://127.0.0.1:{redis.port}"))
    yield other
    other.container.close()


def deliver(service: Service, number: int) -> None:
    service.deliver(*(an_item(psp_reference=f"PSP{place}") for place in range(number)))


def test_of_many_webhooks_one_waits_for_it(
    on_it: Service, redis: HangingRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "PAUSE_SECONDS", 3600.0)

    deliver(on_it, 30)

    assert on_it.count("webhook_inbox") == 30
    assert redis.asked == 1


def test_after_the_pause_it_is_asked_again(
    on_it: Service, redis: HangingRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "PAUSE_SECONDS", 0.0)

    deliver(on_it, 3)

    assert on_it.count("webhook_inbox") == 3
    assert redis.asked == 3
