"""Without an ORM, without a group: one pooled connection, one INSERT and one commit a request.

As ``bench.support.naive`` it stores the webhook only.
"""

import atexit

from flask import Flask, request
from psycopg_pool import ConnectionPool

from app.bootstrap import Container
from app.settings import Settings
from bench.support.traffic import PATH
from bench.support.verified import KEYRING_CONNECTIONS, verified_rows

TABLE = "pool_inbox"

_INSERT = """
    INSERT INTO pool_inbox (
        guid, merchant_account, event_code, success, psp_reference, original_reference,
        merchant_reference, body, is_live, scheme, hmac_key_id, event_date, received_at)
    VALUES (
        %(guid)s, %(merchant_account)s, %(event_code)s, %(success)s, %(psp_reference)s,
        %(original_reference)s, %(merchant_reference)s, %(body)s, %(is_live)s, %(scheme)s,
        %(hmac_key_id)s, %(event_date)s, %(received_at)s)
    ON CONFLICT DO NOTHING
"""


def build() -> Flask:
    """Build the application, from the environment."""
    settings = Settings.load()
    container = Container(settings, role="pool", pool_size=KEYRING_CONNECTIONS)
    connections = ConnectionPool(
        settings.database_url.get_secret_value(),
        min_size=settings.web_database_connections,
        max_size=settings.web_database_connections,
        open=True,
    )
    atexit.register(connections.close)
    application = Flask(__name__)

    @application.post(PATH)
    def receive() -> str:
        body = request.get_data(cache=False)
        rows = verified_rows(container, body, request.headers.get("Authorization"))
        with connections.connection() as connection:
            for row in rows:
                connection.execute(_INSERT, row)
        return "[accepted]"

    return application
