"""The simulator as a process, and the gateways that call it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from app.bootstrap import Container
from app.embedded import free_port
from app.services.ports import Participants
from app.settings import Settings
from tests.support.builders import ACCOUNT, HMAC_KEY

ROOT = Path(__file__).parents[2]
API_KEY = "the-api-key"


@dataclass(frozen=True)
class Simulator:
    """A running simulator."""

    port: int
    smtp_port: int

    def books(self) -> dict[str, Any]:
        """Return everything that took effect."""
        with urlopen(f"http://127.0.0.1:{self.port}/books", timeout=5) as answer:
            books: dict[str, Any] = json.load(answer)
        return books

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a service whose outside this is."""
        url = f"http://127.0.0.1:{self.port}"
        return {
            "COUNTERSIGN_PSP_URL": f"{url}/v72",
            "COUNTERSIGN_PSP_API_KEY": API_KEY,
            "COUNTERSIGN_PSP_TIMEOUT_SECONDS": "2",
            "COUNTERSIGN_BOOKING_URL": url,
            "COUNTERSIGN_BOOKING_TOKEN": API_KEY,
            "COUNTERSIGN_BOOKING_TIMEOUT_SECONDS": "1",
            "COUNTERSIGN_FRAUD_URL": url,
            "COUNTERSIGN_FRAUD_TOKEN": API_KEY,
            "COUNTERSIGN_SMTP_HOST": "127.0.0.1",
            "COUNTERSIGN_SMTP_PORT": str(self.smtp_port),
            "COUNTERSIGN_SMTP_TLS": "none",
        }

    def participants(self) -> Participants:
        """Return the service's own participants, addressed to this simulator."""
        nowhere = {
            "DATABASE_URL": "postgresql:///nowhere",
            "REDIS_URL": "redis:///nowhere",
            "COUNTERSIGN_ENCRYPTION_KEYS": "unused",
        }
        settings = Settings.from_env({**nowhere, **self.environment})
        return Container(settings, role="test").participants


def hang_up(participants: Participants) -> None:
    """Close the connections that gateways keep for as long as their process lives."""
    for service_id in ("psp", "booking", "fraud"):
        kept = vars(participants[service_id])
        http = kept.get("_http") or kept["_by_operation"]["confirm"]
        http._client.close()  # noqa: SLF001  # nobody else ever has to


@contextmanager
def a_simulator(home: Path) -> Iterator[Simulator]:
    """Start a simulator whose webhooks go nowhere, and stop it."""
    port, smtp_port = free_port(), free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "simulator", "--home", str(home)),
            *("--port", str(port), "--smtp-port", str(smtp_port)),
            *("--webhook-url", "http://127.0.0.1:9/nowhere"),
        ],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],  # noqa: TID251  # a child needs it
            "SIMULATOR_API_KEY": API_KEY,
            "SIMULATOR_HMAC_KEY": HMAC_KEY.hex(),
            "SIMULATOR_MERCHANT_ACCOUNT": ACCOUNT,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert str(port) in process.stderr.readline()
        yield Simulator(port, smtp_port)
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()
