"""How the service connects to Redis, which may be away: it costs a moment, and never the work."""

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Connecting and reading each take at most this long, and nothing is retried: a hanging Redis costs
#: one request both, then ``PAUSE_SECONDS`` of none.
TIMEOUT_SECONDS = 0.1

#: How long Redis is left alone after it failed.
PAUSE_SECONDS = 5.0

T = TypeVar("T")


class RedisAway(Exception):
    """Redis can't be asked now."""


class SparedRedis:
    """A Redis that is left alone for a while after it failed. Thread-safe."""

    def __init__(self, redis_url: str, now: Callable[[], float] = monotonic) -> None:
        """Connect lazily; ``now`` returns seconds from any start."""
        self._now = now
        self._redis = connect(redis_url)
        self._asks_again_at = 0.0

    def ask(self, question: Callable[[Redis], T]) -> T:
        """Return what Redis answers.

        Raises:
            RedisAway: It failed, just now or ``PAUSE_SECONDS`` ago at the most.
        """
        if self._now() < self._asks_again_at:
            raise RedisAway
        try:
            return question(self._redis)
        except RedisError as error:
            self._asks_again_at = self._now() + PAUSE_SECONDS
            raise RedisAway from error


def connect(redis_url: str) -> Redis:
    """Return a client that connects when it is first asked; a wrong address shows only then."""
    return Redis.from_url(
        redis_url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
