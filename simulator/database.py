"""The SQLite file that survives kill -9, and every table in it."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (
    psp_reference TEXT PRIMARY KEY,
    merchant_account TEXT NOT NULL,
    merchant_reference TEXT NOT NULL,
    payment_method TEXT NOT NULL,
    holder_name TEXT NOT NULL,
    currency TEXT NOT NULL,
    requested INTEGER NOT NULL,
    authorised INTEGER NOT NULL DEFAULT 0,
    captured INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    refunded INTEGER NOT NULL DEFAULT 0,
    authorisations INTEGER NOT NULL DEFAULT 0,
    is_voided INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS payments_by_reference ON payments (merchant_reference);
CREATE TABLE IF NOT EXISTS modifications (
    psp_reference TEXT PRIMARY KEY,
    payment_psp_reference TEXT,          -- null: a void of a reference never seen
    payment_reference TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount INTEGER NOT NULL,
    status TEXT NOT NULL                 -- succeeded, refused, failed
);
CREATE INDEX IF NOT EXISTS modifications_by_payment ON modifications (payment_psp_reference);
CREATE TABLE IF NOT EXISTS voids (
    merchant_account TEXT NOT NULL,
    payment_reference TEXT NOT NULL,
    PRIMARY KEY (merchant_account, payment_reference)
);
CREATE TABLE IF NOT EXISTS first_responses (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE TABLE IF NOT EXISTS outages (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE TABLE IF NOT EXISTS webhooks (
    id INTEGER PRIMARY KEY,
    copy_of INTEGER,                     -- the first of several identical webhooks
    event_code TEXT NOT NULL,
    psp_reference TEXT NOT NULL,
    payment_reference TEXT NOT NULL,
    body TEXT NOT NULL,
    effect TEXT,                         -- what happens to the books when it falls due
    state TEXT NOT NULL,                 -- see outbox.State
    queued_at REAL NOT NULL,
    due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS webhooks_open ON webhooks (state, id)
    WHERE state IN ('scheduled', 'waiting', 'failing');
CREATE INDEX IF NOT EXISTS webhooks_by_payment ON webhooks (payment_reference);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY,
    webhook_id INTEGER NOT NULL REFERENCES webhooks (id),
    at REAL NOT NULL,
    status INTEGER                       -- null: no answer
);
CREATE INDEX IF NOT EXISTS deliveries_by_webhook ON deliveries (webhook_id);
CREATE TABLE IF NOT EXISTS bookings (
    reference TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    status TEXT NOT NULL,                -- confirmed, refused, unanswered, cancelled
    confirmation_id TEXT NOT NULL DEFAULT '',
    confirmations INTEGER NOT NULL DEFAULT 0,
    cancellations INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (reference, payment_id)
);
CREATE TABLE IF NOT EXISTS mails (
    id INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,            -- JSON array
    message_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    received_at REAL NOT NULL
);
"""


class Database:
    """One connection behind one lock: transactions are short and never wait for a network.

    ``synchronous=NORMAL`` with a write-ahead log keeps every committed transaction through
    the death of the process; only a power cut may take the last ones.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, creating it and its folder as needed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the database alone; commit on leaving, roll back on any exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection after the running transaction, if any."""
        with self._lock:
            self._connection.close()
