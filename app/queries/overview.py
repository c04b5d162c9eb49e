"""What an operator sees first: what moves, what waits, and for how long."""

from datetime import datetime

from sqlalchemy import Connection, text

from app.queries.ages import age_seconds
from app.queries.payments import Json
from app.queries.psp_queue import last_webhooks, refused_webhooks
from app.queries.reviews import backlog
from app.queries.waiting import waiting_by_reason

_STATES = text(
    "SELECT state, count(*) AS payments, min(updated_at) AS oldest FROM payments"
    " WHERE merchant_account = :merchant_account GROUP BY state ORDER BY state"
)


def overview(connection: Connection, *, merchant_account: str, now: datetime) -> Json:
    """Return an account's payments by state, what waits for whom, and ages in whole seconds."""
    account = {"merchant_account": merchant_account}
    waiting = waiting_by_reason(connection, now=now, merchant_account=merchant_account)
    refused = refused_webhooks(connection, now=now, merchant_account=merchant_account)
    desk = backlog(connection, merchant_account=merchant_account)
    heard_at = last_webhooks(connection, merchant_account=merchant_account).get(merchant_account)
    return {
        "states": [
            {
                "state": row.state,
                "payments": row.payments,
                "oldest_seconds": age_seconds(row.oldest, now),
            }
            for row in connection.execute(_STATES, account)
        ],
        "waiting": [one.as_json(now) for one in waiting.values() if one.webhooks],
        "reviews": desk.reviews,
        "oldest_review_seconds": age_seconds(desk.oldest_at, now) if desk.oldest_at else None,
        "blocked_seconds": age_seconds(refused[0].since, now) if refused else None,
        "last_webhook_seconds": age_seconds(heard_at, now) if heard_at else None,
    }
