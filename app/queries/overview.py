"""What an operator sees first: what moves, what waits, and for how long."""

from datetime import datetime

from sqlalchemy import Connection, text

from app.queries.payments import Json

_STATES = text(
    "SELECT state, count(*) AS payments, min(updated_at) AS oldest FROM payments"
    " WHERE merchant_account = :merchant_account GROUP BY state ORDER BY state"
)

_WORK = text(
    """
    SELECT w.state, count(*) AS webhooks, min(i.received_at) AS oldest
      FROM inbox_work w JOIN webhook_inbox i USING (guid)
     WHERE i.merchant_account = :merchant_account GROUP BY w.state ORDER BY w.state
    """
)

_LAST = text(
    "SELECT max(received_at) FROM webhook_inbox WHERE merchant_account = :merchant_account"
)


def overview(connection: Connection, *, merchant_account: str, now: datetime) -> Json:
    """Return an account's payments by state, its webhooks that wait, and ages in whole seconds."""
    account = {"merchant_account": merchant_account}
    last = connection.execute(_LAST, account).scalar_one()
    return {
        "states": [
            {
                "state": row.state,
                "payments": row.payments,
                "oldest_seconds": _seconds(row.oldest, now),
            }
            for row in connection.execute(_STATES, account)
        ],
        "waiting": [
            {
                "state": row.state,
                "webhooks": row.webhooks,
                "oldest_seconds": _seconds(row.oldest, now),
            }
            for row in connection.execute(_WORK, account)
        ],
        "last_webhook_seconds": None if last is None else _seconds(last, now),
    }


def _seconds(since: datetime, now: datetime) -> int:
    return max(int((now - since).total_seconds()), 0)
