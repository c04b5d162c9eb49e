"""Redis' answer to "seen before?": fast, and only ever a hint.

Redis is told after the commit, so what it knows is on disk. It may forget everything at any instant
or be away: then Postgres answers alone.
"""

import threading
from collections.abc import Sequence
from time import monotonic
from uuid import UUID

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Connecting and reading each take at most this long, and nothing is retried: a hanging Redis costs
#: one request both, then ``PAUSE_SECONDS`` of none.
TIMEOUT_SECONDS = 0.1

#: How long Redis is left alone after it failed.
PAUSE_SECONDS = 5.0

#: The PSP retries for 30 days (psp-webhooks.md section 4).
REMEMBER_SECONDS = 35 * 24 * 3600


class SeenCache:
    """Remembers the GUIDs of stored webhooks. Thread-safe."""

    def __init__(self, redis_url: str) -> None:
        """Connect lazily; a wrong address costs speed, not correctness."""
        self._redis = Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._lock = threading.Lock()
        self._asks_again_at = 0.0

    def seen(self, guids: Sequence[UUID]) -> frozenset[UUID]:
        """Return those of ``guids`` that were stored for certain; in doubt, none."""
        if not self._is_worth_asking():
            return frozenset()
        try:
            values = self._redis.mget([_key(guid) for guid in guids])
        except RedisError:
            self._pause()
            return frozenset()
        return frozenset(
            guid for guid, value in zip(guids, values, strict=True) if value is not None
        )

    def remember(self, guids: Sequence[UUID]) -> None:
        """Note GUIDs whose rows are committed; losing the note is harmless."""
        if not guids or not self._is_worth_asking():
            return
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for guid in guids:
                    pipeline.set(_key(guid), b"1", ex=REMEMBER_SECONDS)
                pipeline.execute()
        except RedisError:
            self._pause()

    def ping(self) -> None:
        """Ask whether Redis is there.

        Raises:
            RedisError: It is not.
        """
        self._redis.ping()

    def _is_worth_asking(self) -> bool:
        with self._lock:
            return monotonic() >= self._asks_again_at

    def _pause(self) -> None:
        with self._lock:
            self._asks_again_at = monotonic() + PAUSE_SECONDS


def _key(guid: UUID) -> bytes:
    return b"countersign:seen:" + guid.bytes
