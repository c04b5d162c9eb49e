"""What an idempotency key has met: its first response, a request in progress, outages."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from simulator.triggers import Reply


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a JSON body, as text: a replay is the same byte for byte."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to.

    Attributes:
        answer: The response to send and to keep under the key.
        reply: Whether and when to send it this time; a replay is always answered at once.
        webhook_id: The webhook that AFTER_WEBHOOK waits for.
        is_processed: False keeps nothing: the key is as good as new.
    """

    answer: Answer
    reply: Reply = Reply.AT_ONCE
    webhook_id: int | None = None
    is_processed: bool = True


class KeyInProgress(Exception):
    """Another request with the same key has not been answered yet."""


class KeysInProgress:
    """The keys being processed at this moment.

    Kept in memory only: an effect and its first response commit together, so a process
    that dies leaves either both or nothing, and no key stays occupied.
    """

    def __init__(self) -> None:
        """Begin with no key in progress."""
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    @contextmanager
    def hold(self, key: str | None) -> Iterator[None]:
        """Occupy ``key`` for the block; without a key nothing is occupied.

        Raises:
            KeyInProgress: The key is occupied. The caller may try again later.
        """
        if key is None:
            yield
            return
        with self._lock:
            if key in self._keys:
                raise KeyInProgress
            self._keys.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._keys.discard(key)

    def is_held(self, key: str) -> bool:
        """Return whether a request with ``key`` is being processed at this moment."""
        with self._lock:
            return key in self._keys


def first_response(connection: sqlite3.Connection, scope: str, key: str | None) -> Answer | None:
    """Return what the key was answered the first time, None for a new key or no key."""
    row = connection.execute(
        "SELECT status, body FROM first_responses WHERE scope = ? AND key = ?", (scope, key)
    ).fetchone()
    return Answer(row["status"], row["body"]) if row else None


def remember(connection: sqlite3.Connection, scope: str, key: str | None, answer: Answer) -> None:
    """Keep the first response of ``key`` for ever; without a key nothing is kept."""
    if key is not None:
        connection.execute(
            "INSERT INTO first_responses (scope, key, status, body) VALUES (?, ?, ?, ?)",
            (scope, key, answer.status, answer.body),
        )


def meets_outage(connection: sqlite3.Connection, scope: str, key: str, *, times: int) -> bool:
    """Return True for the first ``times`` calls with ``key``, False ever after.

    The count commits with the caller's transaction, so a restart does not begin anew.
    """
    row = connection.execute(
        "INSERT INTO outages (scope, key, times) VALUES (?, ?, 1) "
        "ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times",
        (scope, key),
    ).fetchone()
    return int(row["times"]) <= times
