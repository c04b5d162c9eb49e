"""A whole service on a database of its own, outside of pytest's fixtures: a model makes many."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from redis import Redis

from app.bootstrap import Container
from app.factory import create_app
from app.persistence.encryption import new_master_key
from app.services.ports import Participants
from app.settings import Settings
from tests.support import stores
from tests.support.builders import ACCOUNT, HMAC_KEY
from tests.support.clock import FixedClock
from tests.support.fakes import FakeOutside
from tests.support.service import Service


@contextmanager
def a_service(
    postgres_url: str, redis_url: str, outside: Participants, clock: FixedClock
) -> Iterator[Service]:
    """Wire a service to a fresh database, an empty Redis and the given outside."""
    with stores.fresh_database(postgres_url) as database_url:
        _commit_without_waiting_for_the_disk(database_url)
        with Redis.from_url(redis_url) as redis:
            redis.flushall()
        environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "COUNTERSIGN_ENCRYPTION_KEYS": new_master_key(),
        }
        settings = Settings.from_env(environment)
        container = Container(settings, role="test", clock=clock, outside=outside)
        container.accounts.add(ACCOUNT, [HMAC_KEY])
        client = create_app(container).test_client()
        try:
            yield Service(container, FakeOutside(), clock, client)
        finally:
            container.close()


def _commit_without_waiting_for_the_disk(database_url: str) -> None:
    """Processes die in a model, and Postgres does not: it may be quick."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
