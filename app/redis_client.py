"""How the service connects to Redis, which may be away: it costs a moment, and never the work."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Connecting and reading each take at most this long, and nothing is retried: a hanging Redis costs
#: one request both, then ``PAUSE_SECONDS`` of none.
TIMEOUT_SECONDS = 0.1

#: How long Redis is left alone after it failed.
PAUSE_SECONDS = 5.0


def connect(redis_url: str) -> Redis:
    """Return a client that connects when it is first asked; a wrong address shows only then."""
    return Redis.from_url(
        redis_url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
