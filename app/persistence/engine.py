"""How the service connects to Postgres."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: How long a request waits for a free connection before it answers 503 (faults.md F42).
POOL_WAIT_SECONDS = 2

#: What Postgres can't do now and may do later. Everything else is a bug.
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)

_SESSION = {
    "TimeZone": "UTC",
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
}


def connect(database_url: str, *, pool_size: int, application_name: str) -> Engine:
    """Return an engine; no connection is made yet.

    Args:
        database_url: ``postgresql://``; the driver is chosen here.
        pool_size: Connections that this process may hold.
        application_name: Shown in ``pg_stat_activity``.
    """
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    return create_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": 3,
            "application_name": application_name,
            "options": options,
        },
    )


def is_unavailable(error: BaseException | None) -> bool:
    """Tell whether ``error`` says that Postgres is away, rather than that we are wrong."""
    if isinstance(error, UNAVAILABLE):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated
