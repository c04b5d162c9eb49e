"""The worker process: drains the inbox and runs due sagas, until SIGTERM.

Each thread does one piece of work after the other. Of those that find none, one at a time watches:
it looks again after a moment, and the next one takes its place. A thread that finds work wakes the
watcher, so that a backlog is met by all threads, and idle ones do not ask.
"""

import logging
import random
import signal
import threading
from collections.abc import Callable
from time import monotonic, sleep

from app.bootstrap import Container
from app.errors import StoreUnavailable

#: How long SIGTERM waits for steps under way. A step that takes longer is repeated by the next
#: worker when its lease is over, under the same idempotency key.
STOP_SECONDS = 15.0

#: How long a loop stays away from a store that failed.
PAUSE_AFTER_ERROR_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Loop:
    """Threads that do one kind of work."""

    def __init__(
        self,
        name: str,
        run_next: Callable[[], bool],
        *,
        threads: int,
        poll_seconds: float,
        stopping: threading.Event,
    ) -> None:
        """Describe the loop.

        Args:
            name: Of the threads.
            run_next: Does one piece of work; False if there was none.
            threads: How many at once.
            poll_seconds: The longest that an idle loop goes without looking for work.
            stopping: Ends the loop.
        """
        self._run_next = run_next
        self._poll_seconds = poll_seconds
        self._stopping = stopping
        self._work_expected = threading.Event()
        self._watch = threading.Lock()
        self.threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]

    def wake(self) -> None:
        """Let one idle thread look for work now."""
        self._work_expected.set()

    def _run(self) -> None:
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
                self._work_expected.set()
                continue
            with self._watch:
                if not self._stopping.is_set():
                    pause_seconds = self._poll_seconds * random.uniform(0.5, 1.0)  # noqa: S311
                    self._work_expected.wait(pause_seconds)
                    self._work_expected.clear()


class Worker:
    """One worker process's loops."""

    def __init__(self, container: Container) -> None:
        """Prepare the loops; nothing runs yet."""
        settings = container.settings
        poll_seconds = settings.poll_milliseconds / 1000
        self._stopping = threading.Event()
        self._sagas = Loop(
            "saga",
            container.runner.run_next,
            threads=settings.saga_threads,
            poll_seconds=poll_seconds,
            stopping=self._stopping,
        )

        def drain_next() -> bool:
            has_worked = container.drain.run_next()
            if has_worked:
                self._sagas.wake()
            return has_worked

        # One: a backlog is applied in the order in which it came.
        self._drain = Loop(
            "drain", drain_next, threads=1, poll_seconds=poll_seconds, stopping=self._stopping
        )

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then finish what is under way."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, lambda *_: self.stop())
        threads = self._drain.threads + self._sagas.threads
        for thread in threads:
            thread.start()
        _log.info("worker ready", extra={"threads": len(threads)})
        self._stopping.wait()
        ends_at = monotonic() + STOP_SECONDS
        while any(thread.is_alive() for thread in threads) and monotonic() < ends_at:
            self._drain.wake()
            self._sagas.wake()
            sleep(0.02)

    def stop(self) -> None:
        """Take no further work."""
        self._stopping.set()
