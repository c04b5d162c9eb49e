"""What a worker counts, and who may ask it."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from app.embedded import free_port
from app.errors import InvalidSettings, StoreUnavailable
from app.settings import Settings
from app.worker import metrics_served
from tests.support.builders import an_item
from tests.support.commands import CommandLine
from tests.support.instance import eventually
from tests.support.outages import postgres_outage
from tests.support.service import Service

ROOT = Path(__file__).parents[2]


def sample(service: Service, name: str, **labels: str) -> float:
    value = service.container.registry.get_sample_value(f"countersign_{name}", labels)
    return 0.0 if value is None else value


def get(port: int) -> httpx2.Response:
    return httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_a_worker_counts_what_it_claims_and_settles(service: Service) -> None:
    service.start()
    service.settle()
    service.receive(an_item())

    # Fraud check and rules, the authorisation; after the webhook booking and mail.
    assert sample(service, "sagas_claimed_total") == 2
    assert sample(service, "saga_turns_settled_total") == 4
    assert sample(service, "saga_batch_size_sum") == 6
    assert sample(service, "saga_batch_size_count") == 6
    assert sample(service, "saga_transaction_seconds_count") == 6


def test_a_transaction_that_wrote_nothing_is_counted_by_what_went_wrong(service: Service) -> None:
    service.start()
    with (
        postgres_outage(service.container.settings.database_url.get_secret_value()),
        pytest.raises(StoreUnavailable),
    ):
        service.container.runner.run_next()

    assert sample(service, "saga_transactions_failed_total", error="StoreUnavailable") == 1
    assert sample(service, "saga_batch_size_count") == 0


def test_metrics_are_served_while_the_block_runs(service: Service) -> None:
    port = free_port()
    service.start()
    service.settle()

    with metrics_served(f"127.0.0.1:{port}", service.container.registry):
        answer = get(port)

    assert answer.status_code == 200
    assert "countersign_sagas_claimed_total 1.0" in answer.text
    with pytest.raises(httpx2.ConnectError):
        get(port)


def test_nothing_is_served_unless_it_is_asked_for() -> None:
    with metrics_served("", CollectorRegistry()):
        pass


def test_an_address_that_is_taken_is_told_by_the_settings_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"

        with (
            pytest.raises(InvalidSettings, match=f"WORKER_METRICS_LISTEN: {listen}: Address"),
            metrics_served(listen, CollectorRegistry()),
        ):
            pass


def test_a_worker_whose_address_is_taken_does_not_start(countersign: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"

        ran = countersign("worker", COUNTERSIGN_WORKER_METRICS_LISTEN=listen)

    assert ran.code == 1
    assert f"COUNTERSIGN_WORKER_METRICS_LISTEN: {listen}: Address already in use" in ran.err
    assert "Traceback" not in ran.err


def test_a_worker_process_tells_what_it_counts_until_it_is_told_to_stop(
    service: Service, settings: Settings, tmp_path: Path
) -> None:
    service.start()
    service.execute("UPDATE saga_instances SET due = now()")
    port = free_port()
    worker = subprocess.Popen(
        [sys.executable, "-m", "app", "worker"],
        cwd=ROOT,
        env={
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "COUNTERSIGN_ENCRYPTION_KEYS": settings.encryption_keys.get_secret_value(),
            "COUNTERSIGN_HOME": str(tmp_path),
            "COUNTERSIGN_WORKER_METRICS_LISTEN": f"127.0.0.1:{port}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: "countersign_sagas_claimed_total 1.0" in get(port).text)
        told = get(port).text
    finally:
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(40)

    assert code == 0
    assert 'countersign_gateway_calls_under_way{dependency="fraud"}' in told
    with pytest.raises(httpx2.ConnectError):
        get(port)
