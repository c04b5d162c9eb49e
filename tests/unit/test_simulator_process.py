"""The simulator as a process: it starts, survives kill -9, and stops with requests hanging."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECRETS = {
    "SIMULATOR_API_KEY": "the-api-key",
    "SIMULATOR_HMAC_KEY": "AB" * 32,
    "SIMULATOR_MERCHANT_ACCOUNT": "M",
}
HEADERS = {
    "X-API-Key": "the-api-key",
    "Authorization": "Bearer the-api-key",
    "Idempotency-Key": "key",
}
ORDER = {
    "merchantAccount": "M",
    "reference": "ORDER-1",
    "amount": {"value": 1000, "currency": "EUR"},
    "paymentMethod": {"type": "scheme", "holderName": "PSP TIMEOUT"},
    "returnUrl": "https://shop.example",
}


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Running:
    """One started simulator."""

    def __init__(self, home: Path) -> None:
        self.port, self.smtp_port = a_free_port(), a_free_port()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "simulator", "--home", str(home)),
                *("--port", str(self.port), "--smtp-port", str(self.smtp_port)),
                *("--webhook-url", "http://127.0.0.1:9/nowhere"),
            ],
            cwd=ROOT,
            env={**os.environ, **SECRETS},  # noqa: TID251 - a child needs its PATH
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        assert str(self.port) in self.process.stderr.readline()

    def connection(self, timeout_seconds: float = 5.0) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        connection = self.connection()
        try:
            connection.request(method, path, json.dumps(body), HEADERS)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(5.0)


@contextmanager
def a_simulator(home: Path) -> Iterator[Running]:
    running = Running(home)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stderr is not None
        running.process.stderr.close()


@contextmanager
def a_hanging_request(
    simulator: Running, path: str, body: Mapping[str, Any]
) -> Iterator[HTTPConnection]:
    connection = simulator.connection()
    connection.request("POST", path, json.dumps(body), HEADERS)
    try:
        yield connection
    finally:
        connection.close()


def wait_until_charged(simulator: Running) -> None:
    while not simulator.call("GET", "/books")["payments"]:
        time.sleep(0.01)


def test_it_stops_at_once_and_cleanly_although_requests_hang(tmp_path: Path) -> None:
    booking = {"reference": "HANG-1", "payment_id": "payment-1"}

    with (
        a_simulator(tmp_path) as simulator,
        a_hanging_request(simulator, "/v72/payments", ORDER) as connection,
        a_hanging_request(simulator, "/bookings/confirmations", booking),
    ):
        wait_until_charged(simulator)
        before = time.monotonic()
        status = simulator.end(signal.SIGTERM)

        assert status == 0
        assert time.monotonic() - before < 2
        assert connection.sock.recv(1) == b""


def test_kill_9_forgets_nothing(tmp_path: Path) -> None:
    with (
        a_simulator(tmp_path) as simulator,
        a_hanging_request(simulator, "/v72/payments", ORDER),
    ):
        wait_until_charged(simulator)
        simulator.end(signal.SIGKILL)

    with a_simulator(tmp_path) as simulator:
        answer = simulator.call("POST", "/v72/payments", ORDER)
        [payment] = simulator.call("GET", "/books?merchant_reference=ORDER-1")["payments"]

    assert answer["pspReference"] == payment["psp_reference"]
    assert payment["authorisations"] == 1


def test_one_connection_carries_many_requests(tmp_path: Path) -> None:
    with a_simulator(tmp_path) as simulator:
        connection = simulator.connection()
        for _ in range(3):
            connection.request("GET", "/health")
            assert json.loads(connection.getresponse().read()) == {"status": "ok"}
            assert connection.sock is not None
        connection.close()


def test_mails_are_kept_and_bouncing_recipients_refused(tmp_path: Path) -> None:
    mail = "Subject: Your booking\r\nMessage-ID: <1@countersign>\r\n\r\nConfirmed.\r\n"

    with a_simulator(tmp_path) as simulator:
        with smtplib.SMTP("127.0.0.1", simulator.smtp_port) as smtp:
            smtp.sendmail("shop@example.com", ["guest@example.com"], mail)
            smtp.mail("shop@example.com")
            refusal, _ = smtp.rcpt("bounce@example.com")
        [kept] = simulator.call("GET", "/books")["mails"]

    assert refusal == 550
    assert kept["recipients"] == ["guest@example.com"]
    assert (kept["subject"], kept["message_id"]) == ("Your booking", "<1@countersign>")
    assert kept["body"].strip() == "Confirmed."


def test_a_taken_port_and_missing_secrets_are_told_plainly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "--home", str(tmp_path)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        taken = subprocess.run(
            [*command, "--port", port], cwd=ROOT, env=SECRETS, capture_output=True, check=False
        )
    missing = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, check=False)

    assert (taken.returncode, missing.returncode) == (1, 2)
    assert port.encode() in taken.stderr
    assert b"SIMULATOR_API_KEY is missing" in missing.stderr
