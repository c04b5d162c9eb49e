"""Group commit: whatever waits is stored together, with one commit for all.

There is no thread of its own. The first caller who finds nobody at work becomes the leader: it
takes all that waits, its own entry included, and stores it. Those who come meanwhile wait; when the
leader is done, the first of them leads the next batch. The more callers, the larger the batches,
and the fewer commits a caller costs.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

from app.errors import StoreUnavailable

T = TypeVar("T")

#: A waiter gives up after this long. What it waited for may still be stored: not to be acknowledged
#: is the only safe answer, and the sender's retry will be a redelivery.
PATIENCE_SECONDS = 5.0

#: How many entries may wait: more than a batch and its successor is a queue that only grows.
WAITING_MAX = 1024


@dataclass(eq=False)
class _Ticket(Generic[T]):
    """An entry that waits. It counts as not stored until its batch has succeeded."""

    entry: T
    called: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    error: Exception | None = field(default_factory=StoreUnavailable)


class GroupCommit(Generic[T]):
    """Stores entries in batches. Thread-safe; one for each process."""

    def __init__(
        self,
        flush: Callable[[Sequence[T]], None],
        *,
        afterwards: Callable[[Sequence[T]], None],
        on_stall: Callable[[], None],
        batch_max: int,
    ) -> None:
        """Prepare.

        Args:
            flush: Stores entries durably, all or none. ``StoreUnavailable`` is every waiter's
                error; any other one makes each entry be tried alone.
            afterwards: Runs once the waiters of a batch have been answered; must not raise.
            on_stall: Makes a flush that hangs fail; called by one who lost patience, if this very
                flush has taken as long.
            batch_max: Entries in one flush.
        """
        self._flush = flush
        self._afterwards = afterwards
        self._on_stall = on_stall
        self._batch_max = batch_max
        self._lock = threading.Lock()
        self._waiting: list[_Ticket[T]] = []
        self._has_leader = False
        self._flush_began_at = 0.0

    def store(self, entry: T) -> None:
        """Return when the entry is on disk.

        Raises:
            StoreUnavailable: Too many wait, or the store is away. The entry may be on disk if we
                only lost patience; it must not be acknowledged.
            Exception: Whatever ``flush`` raised for this entry alone.
        """
        ticket = _Ticket(entry)
        with self._lock:
            if len(self._waiting) >= WAITING_MAX:
                raise StoreUnavailable("too many webhooks wait to be stored")
            self._waiting.append(ticket)
            leads = not self._has_leader
            self._has_leader = True
        if not leads:
            if not ticket.called.wait(PATIENCE_SECONDS) and self._give_up(ticket):
                if monotonic() - self._flush_began_at >= PATIENCE_SECONDS:
                    self._on_stall()
                raise StoreUnavailable("the webhook waited too long to be stored")
            leads = not ticket.is_done
        if leads:
            self._lead()
        if ticket.error is not None:
            raise ticket.error

    def _lead(self) -> None:
        """Store one batch, and hand the lead to the first who waits. Our own entry is in it."""
        with self._lock:
            batch = self._waiting[: self._batch_max]
            del self._waiting[: len(batch)]
            self._flush_began_at = monotonic()
        try:
            self._flush_tickets(batch)
        finally:
            self._pass_on()
            for ticket in batch:
                ticket.is_done = True
                ticket.called.set()
        self._afterwards([ticket.entry for ticket in batch if ticket.error is None])

    def _flush_tickets(self, batch: list[_Ticket[T]]) -> None:
        try:
            self._flush([ticket.entry for ticket in batch])
        except StoreUnavailable:
            return
        except Exception as error:  # noqa: BLE001  # it belongs to its entry, not to the leader
            if len(batch) == 1:
                batch[0].error = error
                return
            # One entry that can't be stored must not take its neighbours along.
            for ticket in batch:
                self._flush_tickets([ticket])
        else:
            for ticket in batch:
                ticket.error = None

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].called.set()
            else:
                self._has_leader = False

    def _give_up(self, ticket: _Ticket[T]) -> bool:
        """Leave the queue; False if we were called at the last moment."""
        with self._lock:
            if ticket.called.is_set():
                return False
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            return True
