"""The threads that post webhooks, with the PSP's blocking retry queue.

Every webhook is tried at once, several at a time. One that is not accepted goes to the
endpoint's retry queue; from then on only the oldest failing webhook is tried, on the PSP's
schedule, and everything newer waits behind it. Delivery is at least once: a process that dies
between the answer and the note of it sends again.
"""

import queue
import threading

import httpx2

from simulator import clock, outbox
from simulator.database import Database
from simulator.settings import Settings

TIMEOUT_SECONDS = 10.0  #: The PSP's patience with one delivery.
COURIERS = 8  #: Deliveries at a time.
#: Handed out at a time; few, because what is handed out no longer heeds a blocked queue.
PARCELS_MAX = 2 * COURIERS
POLL_SECONDS = 1.0  #: Only a safety net: whoever queues a webhook wakes the dispatcher.
STOP_SECONDS = 0.5  #: How long stopping waits for deliveries under way.
RETRY_SECONDS = (120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)  #: The last one repeats.
PATIENCE_SECONDS = 30 * 86400  #: After so long the PSP gives a webhook up.


class Delivery:
    """Posts what the outbox holds, until stopped."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Prepare the threads; nothing is sent before ``start``."""
        self._database = database
        self._url = settings.webhook_url
        self._speedup = settings.speedup
        self._client = httpx2.Client(
            auth=settings.basic_auth,
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
            headers={"Content-Type": "application/json; charset=utf-8"},
        )
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._attempted = threading.Condition()
        self._in_flight: set[int] = set()
        self._parcels: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        targets = [self._dispatch] + [self._carry] * COURIERS
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]

    def start(self) -> None:
        """Begin to deliver, first of all what an earlier process left behind."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop soon; deliveries under way may be cut off and are then sent again later."""
        self._stopping.set()
        self._wake.set()
        with self._attempted:
            self._attempted.notify_all()
        for _ in range(COURIERS):
            self._parcels.put(None)
        until = clock.now() + STOP_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - clock.now()))
        if not any(thread.is_alive() for thread in self._threads):
            self._client.close()

    def wake(self) -> None:
        """Look into the outbox now; called after a commit that queued something."""
        self._wake.set()

    def wait_until_attempted(self, webhook_id: int, timeout_seconds: float) -> bool:
        """Wait until the webhook was posted once, accepted or not; False if time ran out.

        Time runs out when an older webhook blocks the queue.
        """

        def was_attempted() -> bool:
            with self._database.transaction() as connection:
                return outbox.was_attempted(connection, webhook_id)

        with self._attempted:
            return self._attempted.wait_for(
                lambda: self._stopping.is_set() or was_attempted(), timeout_seconds
            )

    def _dispatch(self) -> None:
        """Hand sendable webhooks to the couriers, one pass after every change."""
        while not self._stopping.is_set():
            self._wake.clear()
            # Taken before the look at the outbox: a courier notes the outcome first and
            # leaves the set second, so nothing that is noted can be sent again.
            busy = set(self._in_flight)
            with self._database.transaction() as connection:
                now = clock.now()
                outbox.release_due(connection, now)
                for webhook_id in outbox.sendable(connection, now, webhooks_max=PARCELS_MAX):
                    if webhook_id not in busy:
                        self._in_flight.add(webhook_id)
                        self._parcels.put(webhook_id)
                due_at = outbox.next_due_at(connection)
            pause = POLL_SECONDS if due_at is None else due_at - now
            # What is due already is with a courier, who wakes this thread when done.
            self._wake.wait(min(pause, POLL_SECONDS) if pause > 0 else POLL_SECONDS)

    def _carry(self) -> None:
        """Post one parcel after the other."""
        while (webhook_id := self._parcels.get()) is not None and not self._stopping.is_set():
            self._attempt(webhook_id)
            self._in_flight.discard(webhook_id)
            self._wake.set()
            with self._attempted:
                self._attempted.notify_all()

    def _attempt(self, webhook_id: int) -> None:
        """Post one webhook and note what came of it."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT body, attempts, queued_at FROM webhooks WHERE id = ?", (webhook_id,)
            ).fetchone()
        at = clock.now()
        code = self._post(row["body"])
        with self._database.transaction() as connection:
            if code is not None and 200 <= code < 300:  # noqa: PLR2004 - the 2xx class
                outbox.record_accepted(connection, webhook_id, at, code)
            else:
                retry_at = self._retry_at(row["attempts"], row["queued_at"])
                outbox.record_failed(connection, webhook_id, at, code, retry_at=retry_at)

    def _post(self, body: str) -> int | None:
        """Return the endpoint's status, None if it gave no answer."""
        try:
            return int(self._client.post(self._url, content=body.encode()).status_code)
        except httpx2.HTTPError:
            return None

    def _retry_at(self, attempts_before: int, queued_at: float) -> float | None:
        """Return when to try again, None when the PSP gives up."""
        interval = RETRY_SECONDS[min(attempts_before, len(RETRY_SECONDS) - 1)]
        retry_at = clock.now() + interval / self._speedup
        return None if retry_at > queued_at + PATIENCE_SECONDS / self._speedup else retry_at
