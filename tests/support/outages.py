"""Stores that go away while the service runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url


@contextmanager
def postgres_outage(database_url: str) -> Iterator[None]:
    """Let the database refuse every connection, old and new, while the block runs."""
    database = make_url(database_url).database
    engine = create_engine(
        make_url(database_url).set(drivername="postgresql+psycopg", database="postgres"),
        isolation_level="AUTOCOMMIT",
    )
    try:
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false"))
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                ),
                {"name": database},
            )
            try:
                yield
            finally:
                connection.execute(text(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true"))
    finally:
        engine.dispose()
