"""What is measured: real processes on real stores."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx2
from redis import Redis
from sqlalchemy import text

from app.bootstrap import Container
from app.embedded import free_port
from app.persistence.encryption import new_master_key
from app.server import KEEPALIVE_SECONDS, WORKER_CLASS
from app.settings import Settings, process_environment
from bench.support import load, traffic
from migrations import upgrade
from tests.support import stores
from tests.support.builders import ACCOUNT, HMAC_KEY

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-m")
WEB_WORKERS = 2
READY_SECONDS = 30
#: Warming up: caches fill, statements are prepared.
WARM_UP_REQUESTS = 1000


@dataclass(frozen=True)
class Server:
    """A server on the loopback, warm, and the id of its first process."""

    port: int
    pid: int


@dataclass(frozen=True)
class Service:
    """The service on stores of its own."""

    container: Container
    environment: Mapping[str, str]

    @contextmanager
    def web(self) -> Iterator[Server]:
        """Run the web processes."""
        port = free_port()
        listen = {"COUNTERSIGN_LISTEN": f"127.0.0.1:{port}"}
        with self._serve([*PYTHON, "app", "web"], port, listen) as server:
            yield server

    @contextmanager
    def peer(self, name: str, **environment: str) -> Iterator[Server]:
        """Run ``bench.support.<name>`` under the gunicorn settings of the web processes."""
        port = free_port()
        settings = self.container.settings
        command = [
            *(*PYTHON, "gunicorn", f"bench.support.{name}:build()", "--bind", f"127.0.0.1:{port}"),
            *("--workers", str(settings.web_workers), "--worker-class", WORKER_CLASS),
            *("--worker-connections", str(settings.web_connections)),
            *("--keep-alive", str(KEEPALIVE_SECONDS), "--log-level", "warning"),
            "--no-control-socket",
        ]
        with self._serve(command, port, environment) as server:
            yield server

    @contextmanager
    def process(
        self, command: list[str], environment: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a process in the service's environment, at the latest until the block ends."""
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**process_environment(), **self.environment, **(environment or {})},
            stdout=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(READY_SECONDS)

    def execute(self, *statements: str) -> None:
        """Run statements, each committed by itself."""
        engine = self.container.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def count(self, table: str) -> int:
        """Count a table's rows."""
        return int(self.ask(f"SELECT count(*) FROM {table}"))

    def require_stored(self, number: int, *, table: str) -> None:
        """Stop unless as many rows are there as were acknowledged."""
        stored = self.count(table)
        if stored != number:
            raise SystemExit(f"{number} were acknowledged and {stored} are in {table}")

    def empty_inbox(self) -> None:
        """Forget every webhook."""
        self.execute("TRUNCATE webhook_inbox, inbox_work, webhook_redeliveries")

    def store_pids(self) -> dict[str, int]:
        """Return the first processes of Postgres and of Redis."""
        postmaster = Path(self.ask("SHOW data_directory")) / "postmaster.pid"
        redis = Redis.from_url(self.environment["REDIS_URL"])
        return {
            "postgres": int(postmaster.read_text().split()[0]),
            "redis": int(redis.info("server")["process_id"]),
        }

    def ask(self, query: str) -> str:
        """Return the one value that a query finds, as text."""
        with self.container.engine.connect() as connection:
            return str(connection.execute(text(query)).scalar_one())

    @contextmanager
    def _serve(
        self, command: list[str], port: int, environment: Mapping[str, str]
    ) -> Iterator[Server]:
        with self.process(command, environment) as process:
            _await(f"http://127.0.0.1:{port}/health/live", process)
            load.run(port, iter(traffic.new(WARM_UP_REQUESTS)))
            yield Server(port, process.pid)


@contextmanager
def service() -> Iterator[Service]:
    """Fresh stores with the newest schema and one merchant account; yields the wired service."""
    with (
        stores.postgres() as database_url,
        stores.redis() as redis_url,
        stores.short_folder() as home,
    ):
        environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "COUNTERSIGN_HOME": str(home),
            "COUNTERSIGN_ENCRYPTION_KEYS": new_master_key(),
            "COUNTERSIGN_WEB_WORKERS": str(WEB_WORKERS),
        }
        upgrade(database_url)
        with closing(
            Container(Settings.from_env(environment), role="bench", pool_size=4)
        ) as container:
            container.accounts.add(ACCOUNT, [HMAC_KEY])
            yield Service(container, environment)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until it answers, whatever it answers."""
    ends_at = monotonic() + READY_SECONDS
    while True:
        try:
            httpx2.get(url, timeout=2)
        except httpx2.TransportError:
            if monotonic() > ends_at or process.poll() is not None:
                raise
            sleep(0.05)
        else:
            return
