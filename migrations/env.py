"""How alembic connects: one run at a time, a transaction each, no waiting behind live traffic."""

from time import sleep

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from app.persistence.tables import metadata
from app.settings import Settings

#: Names this service's migrations among all advisory locks of the database.
ADVISORY_LOCK = 6_021_023
#: A migration that can't get its lock fails at once and can be run again; one that waits would hold
#: up every query that comes after it.
LOCK_TIMEOUT = "5s"
#: How often a migration looks whether the one on another host is over.
LOCK_PAUSE_SECONDS = 0.2


def _database_url() -> str:
    given = context.config.attributes.get("database_url")
    return str(given) if given else Settings.load().database_url.get_secret_value()


def _migrate(connection: Connection) -> None:
    # Of the session: a migration that builds an index beside live traffic commits on its way. And
    # asked for again and again: building an index waits for every statement that is under way.
    lock = text("SELECT pg_try_advisory_lock(:lock)")
    while not connection.execute(lock, {"lock": ADVISORY_LOCK}).scalar_one():
        connection.rollback()
        sleep(LOCK_PAUSE_SECONDS)
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


engine = create_engine(make_url(_database_url()).set(drivername="postgresql+psycopg"))
with engine.connect() as live:
    _migrate(live)
    live.commit()
engine.dispose()
