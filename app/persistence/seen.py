"""Redis' answer to "seen before?": fast, and only ever a hint.

Redis is told after the commit, so what it knows is on disk. It may forget everything at any instant
or be away: then Postgres answers alone.
"""

import threading
from collections.abc import Collection, Sequence
from time import monotonic
from uuid import UUID

from redis import RedisError

from app.redis_client import PAUSE_SECONDS, connect

#: Notes that wait for the next question; more are forgotten.
UNTOLD_MAX = 1000


class SeenCache:
    """Remembers the GUIDs of stored webhooks. Thread-safe."""

    def __init__(self, redis_url: str, *, remember_seconds: int) -> None:
        """Connect lazily; a wrong address costs speed, not correctness.

        Args:
            redis_url: Where Redis is.
            remember_seconds: For how long; longer than the PSP retries.
        """
        self._redis = connect(redis_url)
        self._remember_seconds = remember_seconds
        self._lock = threading.Lock()
        self._untold: set[UUID] = set()
        self._asks_again_at = 0.0

    def seen(self, guids: Sequence[UUID]) -> frozenset[UUID]:
        """Return those of ``guids`` that were stored, as far as Redis knows; in doubt, none.

        What was remembered meanwhile is told first, in the same round trip.
        """
        with self._lock:
            if monotonic() < self._asks_again_at:
                return frozenset()
            told, self._untold = self._untold, set()
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for guid in told:
                    # pipeline.set() takes longer to build this than Redis takes to do it
                    pipeline.execute_command(  # type: ignore[no-untyped-call]
                        "SET", _key(guid), b"1", "EX", self._remember_seconds
                    )
                pipeline.mget([_key(guid) for guid in guids])
                values = pipeline.execute()[-1]
        except RedisError:
            self._pause()
            return frozenset()
        return frozenset(
            guid for guid, value in zip(guids, values, strict=True) if value is not None
        )

    def remember(self, guids: Collection[UUID]) -> None:
        """Note GUIDs whose rows are committed; Redis is told with the next question.

        Losing a note is harmless: Postgres is asked instead.
        """
        with self._lock:
            if len(self._untold) < UNTOLD_MAX and monotonic() >= self._asks_again_at:
                self._untold.update(guids)

    def ping(self) -> None:
        """Ask whether Redis is there.

        Raises:
            RedisError: It is not.
        """
        self._redis.ping()

    def _pause(self) -> None:
        with self._lock:
            self._asks_again_at = monotonic() + PAUSE_SECONDS


def _key(guid: UUID) -> bytes:
    return b"countersign:seen:" + guid.bytes
