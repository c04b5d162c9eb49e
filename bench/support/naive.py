"""The usual way: the same route in Flask, with one ORM session and one commit a request.

It does less than the service: it stores no work for a drain, asks no Redis, and forgets duplicates.
"""

from flask import Flask, request
from sqlalchemy import MetaData, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

from app.bootstrap import Container
from app.persistence.tables import webhook_inbox
from app.settings import Settings
from bench.support.traffic import PATH
from bench.support.verified import KEYRING_CONNECTIONS, verified_rows

TABLE = "naive_inbox"


class Base(DeclarativeBase):
    """The ORM's registry."""


class Webhook(Base):
    """A stored webhook: every column and index of the service's own table."""

    __table__ = webhook_inbox.to_metadata(MetaData(), name=TABLE)


def build() -> Flask:
    """Build the application, from the environment."""
    settings = Settings.load()
    container = Container(settings, role="naive", pool_size=KEYRING_CONNECTIONS)
    engine = create_engine(
        make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+psycopg"),
        pool_size=settings.web_database_connections,
        max_overflow=0,
    )
    application = Flask(__name__)

    @application.post(PATH)
    def receive() -> str:
        body = request.get_data(cache=False)
        rows = verified_rows(container, body, request.headers.get("Authorization"))
        with Session(engine) as session:
            session.add_all(Webhook(**row) for row in rows)
            try:
                session.commit()
            except IntegrityError:
                session.rollback()  # it is there already
        return "[accepted]"

    return application
