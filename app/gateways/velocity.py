"""How many payments a shopper has started lately, counted in Redis within a moving window."""

import hmac
from datetime import datetime

from redis import Redis

from app.domain.fraud import Refusal, too_many
from app.redis_client import SparedRedis


class Velocity:
    """Bounds the payments of one mail address at one merchant account. Thread-safe.

    Whatever becomes of a payment, it counts, so that who is refused does not get through by trying
    on. It counts once, however often it is checked. The address is in Redis only as a keyed digest,
    and for no longer than the window.
    """

    def __init__(self, redis_url: str, *, secret: bytes, most: int, window_seconds: int) -> None:
        """Count through Redis, which is asked once a payment.

        Args:
            redis_url: Where it is.
            secret: The digest's key, the same in every process.
            most: Payments within the window.
            window_seconds: The window; it ends with the payment that is checked.
        """
        self._redis = SparedRedis(redis_url)
        self._secret = secret
        self._most = most
        self._window_seconds = window_seconds

    def check(
        self, merchant_account: str, email: str, payment_id: str, *, now: datetime
    ) -> Refusal | None:
        """Count a payment, and refuse it if it is one too many.

        Raises:
            RedisAway: Redis can't be asked now; finding out took 0.2 seconds at the most.
        """
        name = self._name(merchant_account, email)
        at = now.timestamp()

        def count(redis: Redis) -> int:
            with redis.pipeline() as pipeline:
                pipeline.zremrangebyscore(name, "-inf", at - self._window_seconds)
                pipeline.zadd(name, {payment_id: at}, nx=True)
                pipeline.zcard(name)
                pipeline.zrank(name, payment_id)
                pipeline.expire(name, self._window_seconds)
                _gone, is_new, counted, earlier, _expires = pipeline.execute()
            # What was counted after it says nothing against a payment that is checked again.
            return int(counted if is_new else earlier + 1)

        count_now = self._redis.ask(count)
        return too_many(count_now, most=self._most, window_seconds=self._window_seconds)

    def _name(self, merchant_account: str, email: str) -> str:
        whose = f"{merchant_account}\n{email.lower()}"
        digest = hmac.digest(self._secret, whose.encode(), "sha256").hex()
        return f"countersign:velocity:{digest}"
