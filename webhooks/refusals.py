"""What was refused, kept for operators without trust: any stranger can make us write here.

So the body is cut, a process writes a bounded number a minute, and the newest rows replace the
oldest.
"""

import json
import logging
from threading import Lock
from time import monotonic

from sqlalchemy import Engine, insert, text
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock
from app.errors import WebhookRefused
from app.persistence.tables import Scheme, webhook_refusals

BODY_BYTES_MAX = 8192
KEPT_A_MINUTE_MAX = 60
ROWS_MAX = 10_000

_log = logging.getLogger(__name__)


class Refusals:
    """Keeps refusals. Thread-safe."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Write through ``engine``."""
        self._engine = engine
        self._clock = clock
        self._lock = Lock()
        self._minute = 0
        self._kept = 0

    def keep(
        self,
        refusal: WebhookRefused,
        *,
        body: bytes,
        scheme: Scheme,
        header_signature: str | None,  # noqa: ARG002  # the diagnosis reads it
        remote_address: str | None,
    ) -> None:
        """Keep a refusal in a transaction of its own; a failure to keep it changes no answer."""
        if not self._may_write():
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    insert(webhook_refusals).values(
                        code=refusal.code,
                        detail=str(refusal),
                        scheme=scheme,
                        claimed_account=_claimed_account(body),
                        remote_address=remote_address,
                        body=body[:BODY_BYTES_MAX],
                        received_at=self._clock.now(),
                    )
                )
                connection.execute(
                    text(
                        "DELETE FROM webhook_refusals WHERE refusal_id <= "
                        "(SELECT max(refusal_id) FROM webhook_refusals) - :rows_max"
                    ),
                    {"rows_max": ROWS_MAX},
                )
        except SQLAlchemyError:
            _log.warning("a refused webhook could not be kept", extra={"code": refusal.code})

    def _may_write(self) -> bool:
        minute = int(monotonic() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute, self._kept = minute, 0
            self._kept += 1
            return self._kept <= KEPT_A_MINUTE_MAX


def _claimed_account(body: bytes) -> str | None:
    """Return the account that the body claims, for the list; nothing is concluded from it."""
    try:
        item = json.loads(body)["notificationItems"][0]["NotificationRequestItem"]
        claimed = str(item["merchantAccountCode"])[:80]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return claimed.encode("utf-8", "replace").decode().replace("\x00", "")
