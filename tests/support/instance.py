"""A whole instance as processes: `countersign up`, driven from outside like a user would."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx2
import psutil

from app.embedded import free_port
from tests.support.stores import short_folder

T = TypeVar("T")

READY_SECONDS = 60.0
STOP_SECONDS = 40.0

#: Short leases and deadlines, so that what a killed process held is free again within seconds.
IMPATIENT = {
    "COUNTERSIGN_LEASE_SECONDS": "5",
    "COUNTERSIGN_PSP_TIMEOUT_SECONDS": "2",
    "COUNTERSIGN_BOOKING_TIMEOUT_SECONDS": "1",
    "COUNTERSIGN_FRAUD_TIMEOUT_SECONDS": "2",
    "COUNTERSIGN_SMTP_TIMEOUT_SECONDS": "2",
    "COUNTERSIGN_POLL_MILLISECONDS": "50",
    "SIMULATOR_LATE_WEBHOOK_SECONDS": "2",
}


@dataclass
class RunningInstance:
    """A started instance."""

    process: subprocess.Popen[str]
    home: Path
    port: int
    ready_line: str
    demo: Mapping[str, str]

    @property
    def api(self) -> httpx2.Client:
        """A client of the merchant API; the caller closes it."""
        return httpx2.Client(
            base_url=self.demo["url"],
            headers={"Authorization": f"Bearer {self.demo['api_key']}"},
            timeout=40,
        )

    def start_payment(
        self,
        reference: str,
        *,
        holder_name: str = "S Hopper",
        booking: str = "BK-1001",
        email: str = "s.hopper@example.com",
        capture: str = "manual",
        wait: int = 0,
    ) -> httpx2.Response:
        """Start a payment under its reference as the key."""
        headers = {"Idempotency-Key": reference}
        if wait:
            headers["Prefer"] = f"wait={wait}"
        body = {
            "merchant_reference": reference,
            "amount": {"value": 12500, "currency": "EUR"},
            "capture": capture,
            "payment_method": {"type": "scheme", "holder_name": holder_name},
            "shopper": {"email": email},
            "booking": {"reference": booking},
        }
        with self.api as api:
            return api.post("/payments", json=body, headers=headers)

    def payment(self, payment_id: str) -> dict[str, Any]:
        """Return the payment as the API shows it."""
        with self.api as api:
            answer = api.get(f"/payments/{payment_id}")
            answer.raise_for_status()
            return dict(answer.json())

    def timeline(self, payment_id: str) -> list[dict[str, Any]]:
        """Return what happened to the payment."""
        with self.api as api:
            return list(api.get(f"/payments/{payment_id}/timeline").json()["items"])

    def books(self, merchant_reference: str | None = None) -> dict[str, Any]:
        """Return the simulator's own books."""
        asked = {"merchant_reference": merchant_reference} if merchant_reference else {}
        answer = httpx2.get(f"{self.demo['simulator_url']}/books", params=asked, timeout=10)
        return dict(answer.json())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `countersign` command against this instance."""
        return subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            env={**os.environ, "COUNTERSIGN_HOME": str(self.home)},  # noqa: TID251
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def processes(self, role: str) -> list[psutil.Process]:
        """Return the running processes of a role: ``web``, ``worker`` or ``simulator``."""
        return [
            child
            for child in psutil.Process(self.process.pid).children()
            if is_running(child) and role in (*child.cmdline()[-1:], *child.cmdline()[1:3])
        ]

    def stores(self) -> list[psutil.Process]:
        """Return the embedded stores' own processes, Postgres' backends included."""
        line = (self.home / "postgres" / "postmaster.pid").read_text().splitlines()[0]
        postmaster = psutil.Process(int(line))
        redis = [
            child
            for child in psutil.Process(self.process.pid).children()
            if "redis-server" in child.name()
        ]
        return [*redis, postmaster, *postmaster.children()]

    def kill_9(self, role: str) -> None:
        """Kill every process of a role, with its children."""
        for process in self.processes(role):
            for child in [*process.children(recursive=True), process]:
                child.kill()

    def stop(self) -> int:
        """Stop the instance as Ctrl-C does, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def running_instance(
    environment: Mapping[str, str] | None = None, *, home: Path | None = None
) -> Iterator[RunningInstance]:
    """Start an instance on free ports, wait until it is ready, and stop it in the end."""
    with short_folder() as folder:
        chosen = home or folder / "home"
        port = _free_pair_of_ports()
        messages = (folder / "messages").open("a+")
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "up", "--port", str(port), "--home", str(chosen)],
            env={**os.environ, **IMPATIENT, **(environment or {})},  # noqa: TID251
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        )
        try:
            assert process.stdout is not None
            ready_line = process.stdout.readline()
            messages.seek(0)
            assert ready_line.startswith("ready "), messages.read()
            demo = json.loads((chosen / "demo.json").read_text())
            yield RunningInstance(process, chosen, port, ready_line, demo)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(STOP_SECONDS)
            if process.stdout is not None:
                process.stdout.close()
            messages.close()


def eventually(look: Callable[[], T | None], *, within_seconds: float = 30.0) -> T:
    """Return what ``look`` finds, as soon as it finds something true.

    A connection that is refused meanwhile counts as nothing found: processes are killed here.
    """
    ends_at = monotonic() + within_seconds
    while True:
        with suppress(httpx2.TransportError, httpx2.HTTPStatusError):
            found = look()
            if found:
                return found
        assert monotonic() < ends_at, "it did not happen in time"
        sleep(0.05)


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that ended and was not yet reaped does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _free_pair_of_ports() -> int:
    """The simulator takes the port after the given one."""
    while True:
        port = free_port()
        if port < 65_000 and _is_free(port + 1):
            return port


def _is_free(port: int) -> bool:
    return not any(
        connection.laddr and connection.laddr.port == port
        for connection in psutil.net_connections("tcp4")
    )
