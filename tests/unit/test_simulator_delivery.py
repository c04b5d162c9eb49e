"""The simulator delivers webhooks over real HTTP: at once, again, and in the PSP's order."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from simulator.application import create_application
from simulator.database import Database
from simulator.delivery import Delivery
from simulator.notifications import signature
from simulator.settings import Settings
from simulator.world import World

HMAC_KEY = b"k" * 32
PATIENCE_SECONDS = 10.0


class Endpoint(ThreadingHTTPServer):
    """Records what is posted to it and answers what it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recorder)
        self.received: list[tuple[str | None, bytes]] = []
        self.statuses: list[int] = []
        self.changed = threading.Condition()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/webhooks/adyen"

    def wait_for(self, count: int) -> list[str]:
        """Wait for so many deliveries and return their merchant references, in order."""
        with self.changed:
            is_there = self.changed.wait_for(lambda: len(self.received) >= count, PATIENCE_SECONDS)
        assert is_there, f"only {len(self.received)} of {count} webhooks came"
        return [item_of(body)["merchantReference"] for _, body in self.received]


class _Recorder(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.gate.wait(PATIENCE_SECONDS)
        with self.server.changed:
            self.server.received.append((self.headers["Authorization"], body))
            status = self.server.statuses.pop(0) if self.server.statuses else 200
            self.server.changed.notify_all()
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


def item_of(body: bytes) -> dict[str, Any]:
    return dict(json.loads(body)["notificationItems"][0]["NotificationRequestItem"])


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def a_world(home: Path, endpoint: Endpoint, *, is_delivering: bool = True) -> Iterator[World]:
    settings = Settings(
        port=0,
        smtp_port=0,
        home=home,
        webhook_url=endpoint.url,
        merchant_account="M",
        api_key="the-api-key",
        hmac_key=HMAC_KEY,
        basic_auth=("adyen", "secret"),
        speedup=120 / 0.2,
    )
    database = Database(home / "simulator.sqlite3")
    delivery = Delivery(database, settings)
    if is_delivering:
        delivery.start()
    yield World(settings, database, delivery)
    delivery.stop()
    database.close()


def pay(world: World, reference: str, holder_name: str = "S Hopper") -> dict[str, Any]:
    order = {
        "merchantAccount": "M",
        "reference": reference,
        "amount": {"value": 1000, "currency": "EUR"},
        "paymentMethod": {"type": "scheme", "holderName": holder_name},
        "returnUrl": "https://shop.example",
    }
    answer = (
        create_application(world)
        .test_client()
        .post(
            "/v72/payments",
            json=order,
            headers={"X-API-Key": "the-api-key", "Idempotency-Key": reference},
        )
    )
    return dict(answer.get_json())


def test_a_webhook_is_signed_and_carries_the_basic_credentials(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    with a_world(tmp_path, endpoint) as world:
        pay(world, "ORDER-1")
        endpoint.wait_for(1)

    [(authorization, body)] = endpoint.received
    assert authorization == "Basic " + base64.b64encode(b"adyen:secret").decode()
    item = item_of(body)
    assert item["additionalData"]["hmacSignature"] == signature(item, HMAC_KEY)


@pytest.mark.parametrize("status", [500, 401, 302])
def test_a_webhook_that_is_not_accepted_comes_again(
    tmp_path: Path, endpoint: Endpoint, status: int
) -> None:
    endpoint.statuses = [status]

    with a_world(tmp_path, endpoint) as world:
        pay(world, "ORDER-1")
        endpoint.wait_for(2)

    [first, second] = endpoint.received
    assert first == second


def test_a_failing_webhook_blocks_the_newer_ones_until_it_is_accepted(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    endpoint.statuses = [500, 500]

    with a_world(tmp_path, endpoint) as world:
        pay(world, "ORDER-1", "EARLY WEBHOOK")
        pay(world, "ORDER-2")
        references = endpoint.wait_for(4)

    assert references == ["ORDER-1", "ORDER-1", "ORDER-1", "ORDER-2"]


def test_early_webhook_comes_before_the_answer(tmp_path: Path, endpoint: Endpoint) -> None:
    with a_world(tmp_path, endpoint) as world:
        answer = pay(world, "ORDER-1", "EARLY WEBHOOK")

        assert item_of(endpoint.received[0][1])["pspReference"] == answer["pspReference"]


def test_the_same_key_is_in_progress_while_its_early_webhook_is_delivered(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    endpoint.gate.clear()

    with a_world(tmp_path, endpoint) as world:
        first = threading.Thread(target=pay, args=(world, "ORDER-1", "EARLY WEBHOOK"))
        first.start()
        while not world.keys.is_held("ORDER-1"):
            first.join(0.01)
        second = pay(world, "ORDER-1", "EARLY WEBHOOK")
        endpoint.gate.set()
        first.join()

    assert second["errorCode"] == "704"


def test_what_was_queued_before_a_restart_is_delivered_after_it(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    with a_world(tmp_path, endpoint, is_delivering=False) as world:
        pay(world, "ORDER-1")

    with a_world(tmp_path, endpoint):
        assert endpoint.wait_for(1) == ["ORDER-1"]


def test_a_webhook_made_to_order_is_completed_signed_and_sent(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    partial = {"eventCode": "CHARGEBACK", "merchantReference": "ORDER-1", "pspReference": "D1"}

    with a_world(tmp_path, endpoint) as world:
        client = create_application(world).test_client()
        answer = client.post(
            "/webhooks", json={"item": partial}, headers={"Authorization": "Bearer the-api-key"}
        )
        endpoint.wait_for(1)

    assert answer.status_code == 202
    item = item_of(endpoint.received[0][1])
    assert partial.items() <= item.items()
    assert item["additionalData"]["hmacSignature"] == signature(item, HMAC_KEY)
