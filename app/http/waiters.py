"""Requests that wait until their payment rests: one look at the database for all of them.

A waiting request sleeps on an event of its own and asks nothing. While anybody waits, one thread of
the process (a greenlet under gevent) looks for all the payments that are waited for with one query,
again and again, and wakes those requests whose payment rests or whose time is over. It begins with
the first who waits and ends when nobody does: a process without waiting requests asks nothing.
"""

import logging
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic, sleep
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.domain.flow import REST_STATES
from app.domain.payment import Payment
from app.queries.payments import Json, payment_json, payments_at_rest

#: Between two looks: so much later we know that a payment rests.
LOOK_SECONDS = 0.05

#: So much beyond its time a request waits for the last look at its payment, and then goes without:
#: the database is away, or hangs.
LAST_LOOK_SECONDS = 1.0

#: Requests that one look wakes. Each needs a connection then, to keep its answer: hundreds at once
#: would dry the pool for everybody else. The others are woken by the next looks.
WOKEN_MAX = 64

#: The name of the thread that looks.
WATCHER = "payments that are waited for"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """What came of a wait.

    Attributes:
        payment: As it rests, or as it is when the time is over, or else as it was given.
        has_waited: False if there was no place to wait.
        is_told: False if the database did not tell in time: it would not keep an answer either.
    """

    payment: Json
    has_waited: bool = True
    is_told: bool = True


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that waits. ``payment`` is set before it is woken."""

    payment_id: UUID
    ends_at: float
    payment: Json | None = None
    woken: Event = field(default_factory=Event)


class Waiters:
    """The waiting requests of one process. Thread-safe; no lock is held while Postgres is asked."""

    def __init__(self, engine: Engine, *, waiters_max: int) -> None:
        """Look through ``engine``; nothing is asked, and no thread runs, until somebody waits."""
        self._engine = engine
        self._waiters_max = waiters_max
        self._lock = Lock()
        self._waiting: set[_Waiter] = set()
        self._watcher: Thread | None = None

    def wait(self, payment: Payment, seconds: float) -> Waited:
        """Return as soon as the payment rests, or when the time is over.

        At once if it rests already, or if as many requests wait as may; up to ``LAST_LOOK_SECONDS``
        later if the database does not tell.
        """
        given = payment_json(payment)
        if payment.state in REST_STATES:
            return Waited(payment=given)
        waiter = _Waiter(payment.payment_id, monotonic() + seconds)
        try:
            if not self._add(waiter):
                return Waited(payment=given, has_waited=False)
            waiter.woken.wait(seconds + LAST_LOOK_SECONDS)
        finally:  # whatever ends the request, its place is free
            with self._lock:
                self._waiting.discard(waiter)
        if waiter.payment is None:
            return Waited(payment=given, is_told=False)
        return Waited(payment=waiter.payment)

    def _add(self, waiter: _Waiter) -> bool:
        with self._lock:
            if len(self._waiting) >= self._waiters_max:
                return False
            self._waiting.add(waiter)
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = Thread(target=self._watch, name=WATCHER, daemon=True)
                self._watcher.start()
            return True

    def _watch(self) -> None:
        """Look while anybody waits. A database that is away is asked again, and told of once."""
        is_away = False
        while waiting := self._who_waits():
            try:
                self._look(waiting)
            except SQLAlchemyError as error:
                if not is_away:
                    _log.warning("no look at payments", extra={"error": type(error).__name__})
                is_away = True
            else:
                is_away = False

    def _who_waits(self) -> list[_Waiter]:
        """Pause, then return who waits. If nobody does, the watcher is dismissed and must end."""
        sleep(LOOK_SECONDS)
        with self._lock:
            if not self._waiting:
                self._watcher = None
            return list(self._waiting)

    def _look(self, waiting: list[_Waiter]) -> None:
        now = monotonic()
        with self._engine.connect() as connection:
            found = payments_at_rest(
                connection,
                [waiter.payment_id for waiter in waiting],
                or_any_of=[waiter.payment_id for waiter in waiting if waiter.ends_at <= now],
            )
        told = [waiter for waiter in waiting if waiter.payment_id in found]
        for waiter in told:
            waiter.payment = found[waiter.payment_id]
        woken = sorted(told, key=lambda waiter: waiter.ends_at)[:WOKEN_MAX]
        with self._lock:
            self._waiting.difference_update(woken)
        for waiter in woken:
            waiter.woken.set()
