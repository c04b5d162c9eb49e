"""How alembic connects: one transaction, one run at a time, no waiting behind live traffic."""

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


def _database_url() -> str:
    given = context.config.attributes.get("database_url")
    return str(given) if given else Settings.load().database_url.get_secret_value()


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        context.run_migrations()


engine = create_engine(make_url(_database_url()).set(drivername="postgresql+psycopg"))
with engine.connect() as live:
    _migrate(live)
    live.commit()
engine.dispose()
