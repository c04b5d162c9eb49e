"""How often each HMAC key verified a webhook, by UTC day: counted here, added up in Postgres.

During a rotation it shows when the old key falls silent. It is a statistic: a process that is
killed loses its last seconds, and a connection that dies during the commit may count them twice.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from threading import Lock, Thread
from time import sleep
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock

#: How often a process writes what it counted.
FLUSH_INTERVAL = timedelta(seconds=5)

#: A statistic holds no webhook up for longer, should the database hang or the pool be dry.
PATIENCE_SECONDS = 1.0

#: Another process may be adding to the same row.
_PATIENCE = text("SET LOCAL lock_timeout = '200ms'")

#: In the order of the keys, so that two processes never wait for each other. A key that was deleted
#: meanwhile is left out, for its row can't be written.
_ADD = text(
    """
    INSERT INTO hmac_key_uses (key_id, day, uses, last_used_at)
    SELECT key_id, counted.day, counted.uses, counted.last_used_at
      FROM unnest(
            CAST(:key_id AS uuid[]), CAST(:day AS date[]), CAST(:uses AS bigint[]),
            CAST(:last_used_at AS timestamptz[])
           ) AS counted (key_id, day, uses, last_used_at)
      JOIN hmac_keys USING (key_id)
     ORDER BY key_id, counted.day
    ON CONFLICT (key_id, day) DO UPDATE
       SET uses = hmac_key_uses.uses + excluded.uses,
           last_used_at = greatest(hmac_key_uses.last_used_at, excluded.last_used_at)
    """
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Uses:
    uses: int
    last_used_at: datetime


_Counted = dict[tuple[UUID, date], _Uses]


class KeyUses:
    """Counts the uses of keys. Thread-safe; no lock is held while the database is asked."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Add up through ``engine``; the first flush is due at once."""
        self._engine = engine
        self._clock = clock
        self._lock = Lock()
        self._counted: _Counted = {}
        self._flushed_at: datetime | None = None
        self._flushing: Thread | None = None

    def count(self, key_id: UUID, n: int = 1) -> None:
        """Note that the key verified ``n`` webhooks just now."""
        now = self._clock.now()
        with self._lock:
            self._add((key_id, now.date()), n, now)

    def flush_if_due(self) -> None:
        """Write what was counted, unless this process did so within the interval; never raises.

        A clock that was set back makes it due: counts do not wait for the old time to return. If it
        takes longer than ``PATIENCE_SECONDS``, it goes on without us.
        """
        now = self._clock.now()
        with self._lock:
            last = self._flushed_at
            if not self._counted or (last and timedelta() <= now - last < FLUSH_INTERVAL):
                return
            if self._flushing is not None and self._flushing.is_alive():
                return
            self._flushed_at = now
            flushing = self._flushing = Thread(target=self.flush, name="key uses", daemon=True)
            flushing.start()
        flushing.join(PATIENCE_SECONDS)

    def keep_flushing(self) -> None:
        """Write what was counted now and then, in a thread of its own, though nothing comes."""

        def run() -> None:
            while True:
                sleep(FLUSH_INTERVAL.total_seconds())
                self.flush()

        Thread(target=run, name="key uses", daemon=True).start()

    def flush(self) -> None:
        """Write what was counted; never raises. What can't be written is kept for the next time."""
        with self._lock:
            counted, self._counted = self._counted, {}
        if not counted:
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(_PATIENCE)
                connection.execute(_ADD, _columns(counted))
        except SQLAlchemyError as error:
            self._take_back(counted)
            _log.warning("uses of keys are not written", extra={"error": type(error).__name__})

    def _take_back(self, counted: _Counted) -> None:
        with self._lock:
            for place, one in counted.items():
                self._add(place, one.uses, one.last_used_at)

    def _add(self, place: tuple[UUID, date], uses: int, at: datetime) -> None:
        """Add to a sum; the caller holds the lock."""
        known = self._counted.get(place)
        if known is None:
            self._counted[place] = _Uses(uses, at)
        else:
            known.uses += uses
            known.last_used_at = max(known.last_used_at, at)


def _columns(counted: _Counted) -> Mapping[str, list[object]]:
    return {
        "key_id": [key_id for key_id, _day in counted],
        "day": [day for _key_id, day in counted],
        "uses": [one.uses for one in counted.values()],
        "last_used_at": [one.last_used_at for one in counted.values()],
    }
