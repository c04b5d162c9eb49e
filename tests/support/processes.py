"""The service as its processes on stores of its own, each of which a test kills, stops or starts.

Where ``tests.support.instance`` looks at ``countersign up`` from outside, here every process is
alone: nobody starts again what a test has killed, so that a test counts while it is dead.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import httpx2
import psutil
import psycopg

from app.bootstrap import Container
from app.embedded import EmbeddedPostgres, EmbeddedRedis, EmbeddedStoreFailed, free_port
from app.persistence.encryption import new_master_key
from app.settings import Settings
from migrations import upgrade
from tests.support.builders import ACCOUNT, HMAC_KEY
from tests.support.instance import eventually, is_running
from tests.support.stores import short_folder

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 40.0


@dataclass
class Process:
    """A ``countersign`` command as a process, with those that it starts itself."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    _popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "app", *self.arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **self.environment},  # noqa: TID251  # for a child
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def is_running(self) -> bool:
        """Tell whether it lives."""
        return self._popen is not None and self._popen.poll() is None

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit code, negative for a signal."""
        assert self._popen is not None
        return self._popen.wait(STOP_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._popen is not None
        self._popen.send_signal(number)

    def kill_9(self) -> None:
        """Kill it and all that it started, and wait until it is gone."""
        if self._popen is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)


@dataclass
class Web(Process):
    """A web process of its own on a port of its own."""

    port: int = field(default_factory=free_port)

    def start(self) -> None:
        """Start it; it may not serve yet."""
        self.environment = {**self.environment, "COUNTERSIGN_LISTEN": f"127.0.0.1:{self.port}"}
        super().start()

    def is_ready(self) -> bool:
        """Tell whether it serves."""
        answer = httpx2.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=5)
        return answer.status_code == httpx2.codes.OK


class Stores:
    """A Postgres and a Redis that a test may kill, and stop without an end."""

    def __init__(self, folder: Path) -> None:
        """Start both."""
        self._folder = folder / "postgres"
        self.postgres = EmbeddedPostgres(self._folder)
        self.redis = EmbeddedRedis(folder)

    def kill_postgres(self) -> None:
        """Kill every process of Postgres, in the middle of whatever it does."""
        processes = self._postgres_processes()
        _signal(processes, signal.SIGKILL)
        _await_end(processes)

    def stop_postgres_at_once(self) -> None:
        """Stop Postgres as ``pg_ctl stop -m immediate`` does: transactions under way are lost."""
        processes = self._postgres_processes()
        _signal(processes[:1], signal.SIGQUIT)
        _await_end(processes)

    def start_postgres(self) -> None:
        """Start Postgres again; what a killed one left behind may need a moment to go."""

        def start() -> bool:
            with suppress(EmbeddedStoreFailed):
                self.postgres.start()
                return True
            return False

        eventually(start)

    @contextmanager
    def hanging_postgres(self) -> Iterator[None]:
        """Postgres accepts connections and statements, and answers none, while the block runs."""
        stopped = self._postgres_processes()
        _signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(stopped, signal.SIGCONT)

    @contextmanager
    def hanging_redis(self) -> Iterator[None]:
        """The same of Redis."""
        self.redis.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.redis.process.send_signal(signal.SIGCONT)

    @contextmanager
    def no_redis(self) -> Iterator[None]:
        """Redis is killed, and comes back empty after the block."""
        self.redis.process.kill()
        self.redis.process.wait(STOP_SECONDS)
        try:
            yield
        finally:
            self.redis.start()

    def stop(self) -> None:
        """Stop both."""
        self.redis.stop()
        self.postgres.stop()

    def _postgres_processes(self) -> list[psutil.Process]:
        """The postmaster, which starts all others, comes first."""
        line = (self._folder / "postmaster.pid").read_text().splitlines()[0]
        postmaster = psutil.Process(int(line))
        return [postmaster, *postmaster.children(recursive=True)]


class Fleet:
    """Two web processes, each on its own port, and a worker, on one database.

    A payment that nobody started counts as external at once, so that every webhook moves one.
    """

    def __init__(self, stores: Stores) -> None:
        """Bring the schema up and register the merchant account; no process is started yet."""
        self.stores = stores
        self._environment = {
            "DATABASE_URL": stores.postgres.url,
            "REDIS_URL": stores.redis.url,
            "COUNTERSIGN_ENCRYPTION_KEYS": new_master_key(),
            "COUNTERSIGN_WEB_WORKERS": "1",
            "COUNTERSIGN_POLL_MILLISECONDS": "50",
            "COUNTERSIGN_ORPHAN_GRACE_SECONDS": "0",
        }
        upgrade(stores.postgres.url)
        with closing(self.container()) as container:
            container.accounts.add(ACCOUNT, [HMAC_KEY])
        self.webs = (self.another_web(), self.another_web())
        self.worker = self.another("worker")

    def another_web(self, **environment: str) -> Web:
        """A further web process, not started, with settings of its own."""
        return Web(["web"], {**self._environment, **environment})

    def another(self, *arguments: str, **environment: str) -> Process:
        """A further process, not started, with settings of its own."""
        return Process(arguments, {**self._environment, **environment})

    def container(self) -> Container:
        """The service on these stores, in this process; the caller closes it."""
        return Container(Settings.from_env(self._environment), role="test")

    @property
    def ports(self) -> list[int]:
        """Where the web processes listen."""
        return [web.port for web in self.webs]

    def start(self) -> None:
        """Start every process that does not run, and wait until the web processes serve."""
        for process in (*self.webs, self.worker):
            if not process.is_running:
                process.start()
        for web in self.webs:
            eventually(web.is_ready)

    def kill_9(self) -> None:
        """Kill every process of the service."""
        for process in (*self.webs, self.worker):
            process.kill_9()

    def ask(self, query: LiteralString, **values: object) -> list[tuple[Any, ...]]:
        """Run a statement past the service, over a connection of its own; return its rows."""
        with psycopg.connect(self.stores.postgres.url, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def stored(self, prefix: str) -> list[str]:
        """Return the PSP references on disk that begin so, in order."""
        return self._references(
            "SELECT psp_reference FROM webhook_inbox WHERE psp_reference LIKE %(like)s", prefix
        )

    def redelivered(self, prefix: str) -> list[str]:
        """Return the PSP reference of each delivery after the first one, in order."""
        return self._references(
            "SELECT psp_reference FROM webhook_redeliveries JOIN webhook_inbox USING (guid)"
            " WHERE psp_reference LIKE %(like)s",
            prefix,
        )

    def moved(self, prefix: str) -> list[str]:
        """Return the PSP reference of each webhook that moved a payment, once a move, in order."""
        return self._references(
            "SELECT i.psp_reference FROM payment_events e"
            " JOIN webhook_inbox i ON e.cause = 'webhook:' || i.guid"
            " WHERE e.kind = 'fact_recorded' AND i.psp_reference LIKE %(like)s",
            prefix,
        )

    def waiting(self, prefix: str) -> list[str]:
        """Return the PSP references of the webhooks that are not done, in order."""
        return self._references(
            "SELECT psp_reference FROM inbox_work JOIN webhook_inbox USING (guid)"
            " WHERE psp_reference LIKE %(like)s",
            prefix,
        )

    def await_drained(self, prefix: str) -> None:
        """Wait until every webhook with such a PSP reference is done."""
        eventually(lambda: not self.waiting(prefix), within_seconds=60)

    def _references(self, query: LiteralString, prefix: str) -> list[str]:
        return sorted(reference for (reference,) in self.ask(query, like=f"{prefix}%"))


@contextmanager
def a_fleet() -> Iterator[Fleet]:
    """A fleet on stores of its own; nothing is started but the stores."""
    with short_folder() as folder:
        stores = Stores(folder)
        try:
            fleet = Fleet(stores)
            try:
                yield fleet
            finally:
                fleet.kill_9()
        finally:
            stores.stop()


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _await_end(processes: Sequence[psutil.Process]) -> None:
    def have_ended() -> bool:
        with suppress(psutil.NoSuchProcess):
            return not any(is_running(process) for process in processes)
        return False  # one ended while we looked: look again

    eventually(have_ended)
