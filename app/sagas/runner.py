"""Runs sagas: makes the calls that the orchestrator wrote down, and brings the replies back.

One thread talks to the database, for all sagas of the process; the calls are made in others. While
a transaction runs, replies gather; the next one settles them all. So sagas share commits the more,
the busier the process is.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Protocol
from uuid import UUID

from app import failpoints
from app.domain.saga import Reply
from app.errors import GatewayError, GatewayNotAsked, GatewayUnavailable, StoreUnavailable
from app.sagas.definition import SIDE_BY_SIDE_MAX
from app.sagas.moving import Call, Called, Turn
from app.sagas.orchestrator import Advance
from app.services.ports import Participants

#: How long the runner stays away from a store that failed.
PAUSE_AFTER_ERROR_SECONDS = 1.0

#: How long a reply waits for a payment that somebody else has locked.
BUSY_SECONDS = 0.05


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What became of one saga.

    Attributes:
        has_run: False if it was not due.
        is_party_away: True if an outside service could not be reached or gave no answer.
    """

    has_run: bool
    is_party_away: bool


class Advances(Protocol):
    """Settles, claims and decides."""

    def advance(
        self,
        called: Sequence[Called] = (),
        *,
        claims_max: int = 0,
        payment_id: UUID | None = None,
        as_of: datetime | None = None,
        goes_on: bool = True,
    ) -> Advance:
        """See ``Orchestrator.advance``."""
        ...


class SagaRunner:
    """Runs due sagas. Any number may run, in processes or on hosts."""

    def __init__(
        self,
        orchestrator: Advances,
        participants: Participants,
        *,
        sagas_max: int = 1,
        poll_seconds: float = 0.2,
    ) -> None:
        """Wire the runner; no thread is started yet.

        Args:
            orchestrator: Decides.
            participants: Carry the commands out.
            sagas_max: Sagas whose calls are made at once.
            poll_seconds: The longest that an idle ``run_until`` goes without looking for work.
        """
        self._orchestrator = orchestrator
        self._participants = participants
        self._sagas_max = sagas_max
        self._poll_seconds = poll_seconds
        self._returned: SimpleQueue[Called | None] = SimpleQueue()

    def run_next(self, payment_id: UUID | None = None, *, as_of: datetime | None = None) -> bool:
        """Take the saga that is due longest as far as it goes without waiting, in this thread.

        Args:
            payment_id: Only this payment's saga; any if None.
            as_of: What counts as due, and the time of the first decision; now if None. Whatever is
                written carries the time of now.

        Returns:
            False if no saga was due.
        """
        return self.run(payment_id, as_of=as_of).has_run

    def run(self, payment_id: UUID | None = None, *, as_of: datetime | None = None) -> Ran:
        """Do as ``run_next`` does, and tell how it went."""
        is_away = False
        advance = self._orchestrator.advance(claims_max=1, payment_id=payment_id, as_of=as_of)
        has_run = advance.claimed > 0
        while advance.turns or advance.unsettled:
            called = advance.unsettled + [self._call_all(turn) for turn in advance.turns]
            if advance.unsettled:
                sleep(BUSY_SECONDS)
            is_away = is_away or any(
                isinstance(reply, GatewayError) and reply.retryable
                for one in called
                for reply in one.replies
            )
            advance = self._orchestrator.advance(called)
            failpoints.hit("saga.after_commit")
        return Ran(has_run=has_run, is_party_away=is_away)

    def wake(self) -> None:
        """Let ``run_until`` look for work now."""
        self._returned.put(None)

    def run_until(self, stopping: threading.Event, *, stop_seconds: float) -> None:
        """Run due sagas until told to stop, then let the calls under way end.

        Args:
            stopping: Set and followed by ``wake`` to stop.
            stop_seconds: How long calls under way are waited for. One that takes longer is repeated
                by the next worker when its lease is over, under the same idempotency key.
        """
        pool = ThreadPoolExecutor(self._sagas_max * SIDE_BY_SIDE_MAX, thread_name_prefix="call")
        under_way = 0
        is_idle = False
        called: list[Called] = []
        ends_at = float("inf")
        try:
            while monotonic() < ends_at:
                called += self._gather(is_idle=is_idle)
                is_stopping = stopping.is_set()
                if is_stopping:
                    ends_at = min(ends_at, monotonic() + stop_seconds)
                free = 0 if is_stopping else self._sagas_max - under_way
                advance = self._advance(called, free, stopping)
                if advance is None:
                    continue
                under_way += len(advance.turns) + len(advance.unsettled) - len(called)
                called = advance.unsettled
                for turn in advance.turns:
                    _begin(turn, pool, self._call, self._returned)
                if is_stopping and not under_way:
                    return
                is_idle = not called and advance.claimed < max(free, 1)
                if called:
                    sleep(BUSY_SECONDS)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _advance(
        self, called: Sequence[Called], free: int, stopping: threading.Event
    ) -> Advance | None:
        """Return what the next transaction came to; None if the store is away."""
        if not called and not free:
            return Advance(turns=[], unsettled=[])
        try:
            advance = self._orchestrator.advance(
                called, claims_max=free, goes_on=not stopping.is_set()
            )
        except StoreUnavailable as error:
            _log.warning("the store is away; work waits for it", extra={"why": str(error)})
            stopping.wait(PAUSE_AFTER_ERROR_SECONDS)
            return None
        except Exception:  # noqa: BLE001  # the thread must outlive its work
            _log.exception("work failed; it will be due again")
            stopping.wait(PAUSE_AFTER_ERROR_SECONDS)
            return Advance(turns=[], unsettled=[])
        if called:
            failpoints.hit("saga.after_commit")
        return advance

    def _gather(self, *, is_idle: bool) -> list[Called]:
        """Return the replies that have come; wait for one, or for the next look, if idle."""
        returned: list[Called | None] = []
        try:
            if is_idle:
                pause_seconds = self._poll_seconds * random.uniform(0.5, 1.0)  # noqa: S311
                returned.append(self._returned.get(timeout=pause_seconds))
            while True:
                returned.append(self._returned.get_nowait())
        except Empty:
            return [called for called in returned if called is not None]

    def _call_all(self, turn: Turn) -> Called:
        return Called(turn=turn, replies=tuple(map(self._call, turn.calls)))

    def _call(self, call: Call) -> Reply | GatewayError:
        failpoints.hit("saga.before_effect")
        command = call.command
        try:
            reply: Reply | GatewayError = self._participants[command.service_id].handle(command)
        except GatewayError as error:
            reply = error
        except Exception as error:  # noqa: BLE001  # a mistake of ours must not end in the middle
            _log.exception("a call failed in a way that nobody knows")
            reply = GatewayUnavailable(f"{command.service_id}: {type(error).__name__}")
        failpoints.hit("saga.after_effect")
        return reply


def _begin(
    turn: Turn,
    pool: ThreadPoolExecutor,
    call: Callable[[Call], Reply | GatewayError],
    returned: SimpleQueue[Called | None],
) -> None:
    """Make a turn's calls side by side; whichever ends last brings the turn back."""
    replies: dict[int, Reply | GatewayError] = {}
    lock = threading.Lock()

    def bring(number: int, reply: Reply | GatewayError) -> None:
        with lock:
            is_new = number not in replies
            replies[number] = reply
            is_last = is_new and len(replies) == len(turn.calls)
        if is_last:
            in_order = tuple(replies[number] for number in range(len(turn.calls)))
            returned.put(Called(turn=turn, replies=in_order))

    def make(number: int) -> None:
        bring(number, call(turn.calls[number]))

    for number in range(len(turn.calls)):
        try:
            pool.submit(make, number)
        except RuntimeError:  # the machine has no thread left
            _log.exception("a call is put off")
            bring(number, GatewayNotAsked("no thread is left for the call"))
