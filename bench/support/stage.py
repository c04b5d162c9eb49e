"""What is measured: real processes on real stores, and the report of a comparison."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx2

from app.bootstrap import Container
from app.embedded import free_port
from app.persistence.encryption import new_master_key
from app.server import KEEPALIVE_SECONDS
from app.settings import Settings
from migrations import upgrade
from tests.support import stores

ROOT = Path(__file__).parents[2]
WORKERS = 2
THREADS = 16


@dataclass(frozen=True)
class Arguments:
    """What every benchmark may be told."""

    rounds: int
    seconds: float
    as_json: bool


def arguments(description: str) -> Arguments:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--json", action="store_true", dest="as_json")
    given = parser.parse_args()
    return Arguments(given.rounds, given.seconds, given.as_json)


@contextmanager
def service() -> Iterator[tuple[Container, dict[str, str]]]:
    """Fresh stores with the newest schema; yields the wired service and its environment."""
    with stores.postgres() as database_url, stores.redis() as redis_url:
        environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "COUNTERSIGN_ENCRYPTION_KEYS": new_master_key(),
            "COUNTERSIGN_WEB_WORKERS": str(WORKERS),
            "COUNTERSIGN_WEB_THREADS": str(THREADS),
        }
        upgrade(database_url)
        container = Container(Settings.from_env(environment), role="bench", pool_size=16)
        yield container, environment
        container.close()


@contextmanager
def web(environment: Mapping[str, str]) -> Iterator[int]:
    """The web process; yields its port."""
    port = free_port()
    own = {**environment, "COUNTERSIGN_LISTEN": f"127.0.0.1:{port}"}
    with _process([sys.executable, "-m", "app", "web"], own, port, "/health/live"):
        yield port


@contextmanager
def hello() -> Iterator[int]:
    """The limit, under the same gunicorn settings; yields its port."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "bench.support.hello:application"),
        *("--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS)),
        *("--worker-class", "gthread", "--threads", str(THREADS)),
        *("--keep-alive", str(KEEPALIVE_SECONDS), "--log-level", "warning"),
        "--no-control-socket",
    ]
    with _process(command, {}, port, "/hello"):
        yield port


def compare(
    name: str,
    given: Arguments,
    measured: Callable[[], float],
    limit: Callable[[], float],
    *,
    target: str,
) -> None:
    """Measure both in turn, and print the ratio: median and spread of the rounds."""
    rounds = [(measured(), limit()) for _ in range(given.rounds)]
    ratios = [one / other for one, other in rounds]
    report: dict[str, object] = {
        "benchmark": name,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "target": target,
        "measured_per_second": round(statistics.median(one for one, _other in rounds)),
        "limit_per_second": round(statistics.median(other for _one, other in rounds)),
    }
    if given.as_json:
        print(json.dumps(report))
        return
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"{name}: {report['ratio']} ({spread} over {given.rounds} rounds; target {target};"
        f" {report['measured_per_second']}/s against {report['limit_per_second']}/s)"
    )


@contextmanager
def _process(
    command: list[str], environment: Mapping[str, str], port: int, path: str
) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},  # noqa: TID251  # for a child
        stdout=subprocess.DEVNULL,
    )
    try:
        _await(f"http://127.0.0.1:{port}{path}", process)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    ends_at = monotonic() + 30
    while True:
        try:
            httpx2.get(url, timeout=2)
        except httpx2.TransportError:
            if monotonic() > ends_at or process.poll() is not None:
                raise
            sleep(0.05)
        else:
            return
