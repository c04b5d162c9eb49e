"""The worker process: drains the inbox and runs due sagas, until SIGTERM."""

import logging
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, start_http_server

from app.bootstrap import Container
from app.errors import InvalidSettings, StoreUnavailable

#: How long SIGTERM waits for steps under way. A step that takes longer is repeated by the next
#: worker when its lease is over, under the same idempotency key.
STOP_SECONDS = 15.0

#: How long a loop stays away from a store that failed.
PAUSE_AFTER_ERROR_SECONDS = 1.0

#: How soon a worker notices that one of its threads has ended by a mistake, and ends itself.
LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Loop:
    """A thread that does one kind of work, piece after piece."""

    def __init__(
        self,
        run_next: Callable[[], bool],
        *,
        then: Callable[[], None],
        poll_seconds: float,
        stopping: threading.Event,
    ) -> None:
        """Describe the loop.

        Args:
            run_next: Does one piece of work; False if there was none.
            then: Called when there was some.
            poll_seconds: The longest that an idle loop goes without looking for work.
            stopping: Ends the loop.
        """
        self._run_next = run_next
        self._then = then
        self._poll_seconds = poll_seconds
        self._stopping = stopping

    def run(self) -> None:
        """Work until told to stop."""
        while not self._stopping.is_set():
            try:
                has_worked = self._run_next()
            except StoreUnavailable as error:
                _log.warning("the store is away; work waits for it", extra={"why": str(error)})
                self._stopping.wait(PAUSE_AFTER_ERROR_SECONDS)
                continue
            except Exception:  # noqa: BLE001  # a thread must outlive its work
                _log.exception("work failed; it will be due again")
                self._stopping.wait(PAUSE_AFTER_ERROR_SECONDS)
                continue
            if has_worked:
                self._then()
            else:
                pause_seconds = self._poll_seconds * random.uniform(0.5, 1.0)  # noqa: S311
                self._stopping.wait(pause_seconds)


class Worker:
    """One worker process: a thread that drains, and one that runs sagas."""

    def __init__(self, container: Container) -> None:
        """Prepare the loops; nothing runs yet."""
        self._stopping = threading.Event()
        self._runner = container.runner
        # One: a backlog is applied in the order in which it came.
        self._drain = Loop(
            container.drain.run_next,
            then=self._runner.wake,
            poll_seconds=container.settings.poll_milliseconds / 1000,
            stopping=self._stopping,
        )

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then finish what is under way.

        Raises:
            SystemExit: A thread ended by a mistake: whoever started this process starts it anew.
        """
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, lambda *_: self.stop())
        threads = [
            threading.Thread(target=self._drain.run, name="drain", daemon=True),
            threading.Thread(target=self._run_sagas, name="sagas", daemon=True),
        ]
        for thread in threads:
            thread.start()
        _log.info("worker ready")
        while not self._stopping.wait(LOOK_SECONDS):
            if not all(thread.is_alive() for thread in threads):
                _log.critical("a thread of this worker has ended; another worker is to take over")
                raise SystemExit(1)
        self._runner.wake()
        ends_at = monotonic() + STOP_SECONDS + 1
        for thread in threads:
            thread.join(max(ends_at - monotonic(), 0))

    def stop(self) -> None:
        """Take no further work."""
        self._stopping.set()

    def _run_sagas(self) -> None:
        self._runner.run_until(self._stopping, stop_seconds=STOP_SECONDS)


@contextmanager
def metrics_served(listen: str, registry: CollectorRegistry) -> Iterator[None]:
    """Serve what this process counts, at any path, while the block runs.

    Args:
        listen: ``host:port``; empty to serve nothing.
        registry: What is counted.

    Raises:
        InvalidSettings: It can't be listened there.
    """
    if not listen:
        yield
        return
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InvalidSettings(f"COUNTERSIGN_WORKER_METRICS_LISTEN: {listen}: {why}") from error
    _log.info("metrics served", extra={"listen": listen})
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
