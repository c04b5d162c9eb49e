"""Real stores for tests: one Postgres and one Redis a test process, one fresh database a test."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from app.embedded import EmbeddedPostgres, EmbeddedRedis
from migrations import upgrade

TEMPLATE = "countersign_template"

_numbers = count(1)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets, and that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[str]:
    """A real Postgres server; yields the URL of its maintenance database."""
    with short_folder() as folder:
        server = EmbeddedPostgres(folder / "postgres")
        try:
            yield server.url
        finally:
            server.stop()


@contextmanager
def redis() -> Iterator[str]:
    """A real Redis server; yields its URL."""
    with short_folder() as folder:
        server = EmbeddedRedis(folder)
        try:
            yield server.url
        finally:
            server.stop()


def make_template(server_url: str) -> None:
    """Build the schema once, by the migrations; every test copies it.

    A database a test is mostly waiting for the disk. What outlives a crash of the machine is not
    what these tests are about; those that kill Postgres have servers of their own, as they come.
    """
    for setting in ("fsync", "full_page_writes"):
        _execute(server_url, f"ALTER SYSTEM SET {setting} = off")
    _execute(server_url, "SELECT pg_reload_conf()")
    _execute(server_url, f"CREATE DATABASE {TEMPLATE}")
    upgrade(_url(server_url, TEMPLATE))


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """A database with the newest schema and nothing in it."""
    name = f"test_{next(_numbers)}"
    _execute(server_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        yield _url(server_url, name)
    finally:
        _execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def _url(server_url: str, database: str) -> str:
    return make_url(server_url).set(database=database).render_as_string(hide_password=False)


def _execute(server_url: str, statement: str) -> None:
    engine = create_engine(make_url(server_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(statement))
    engine.dispose()
