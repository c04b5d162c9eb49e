"""How the service connects to Postgres."""

from typing import Any

import orjson
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: How long a request waits for a free connection before it answers 503 (faults.md F42).
POOL_WAIT_SECONDS = 2

#: What the driver raises when something is wrong with the connection, the server or its locks.
_TROUBLE = (OperationalError, InterfaceError, PoolTimeout)

#: Statements that Postgres gave up because of other transactions: the server is well, and the work
#: may succeed when they are over (lock_timeout, deadlock, serialization failure, timeout).
_CONTENTION = frozenset({"55P03", "40P01", "40001", "57014"})

#: How long connecting may take.
CONNECT_SECONDS = 3
#: No statement of a transaction takes longer than this.
STATEMENT_SECONDS = 30


def connect(database_url: str, *, pool_size: int, application_name: str) -> Engine:
    """Return an engine; no connection is made yet.

    Args:
        database_url: ``postgresql://``; the driver is chosen here.
        pool_size: Connections that this process may hold.
        application_name: Shown in ``pg_stat_activity``.
    """
    return create_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_recycle=1800,
        connect_args=connection_arguments(application_name, statement_seconds=STATEMENT_SECONDS),
        json_deserializer=orjson.loads,
        hide_parameters=True,  # they hold mail addresses and references: not for logs
    )


def connection_arguments(application_name: str, *, statement_seconds: int) -> dict[str, Any]:
    """Return what every connection of ours is made with, as libpq names it.

    A host that went away without a word is noticed within half a minute, not when TCP gives up.
    """
    session = {
        "TimeZone": "UTC",
        "lock_timeout": "5s",
        "statement_timeout": f"{statement_seconds}s",
        "idle_in_transaction_session_timeout": "60s",
    }
    return {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": application_name,
        "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


def is_unavailable(error: BaseException | None) -> bool:
    """Tell whether ``error`` says that the store can't do it now, rather than that we are wrong."""
    if isinstance(error, _TROUBLE):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_contention(error: BaseException | None) -> bool:
    """Tell whether Postgres is there, and other transactions were in the way of this one."""
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    return getattr(error.orig, "sqlstate", None) in _CONTENTION
