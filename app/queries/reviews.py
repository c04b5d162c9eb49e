"""The desk: payments that wait for a person, whose they are, and what to do about them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from app.domain.facts import Fact
from app.domain.funds import Funds
from app.queries.ages import age_seconds
from app.queries.payments import Json, instant

#: Reviews of one list: more than a desk holds.
LISTED_MAX = 500

_OPEN = """
    SELECT r.payment_id, r.merchant_account, r.owner, r.reason, r.step, r.next_step, r.opened_at,
           p.merchant_reference, p.psp_reference, p.amount_minor, p.currency, p.facts, p.version
      FROM reviews r JOIN payments p USING (payment_id)
     WHERE r.closed_at IS NULL
"""

_LIST = text(
    f"""
    {_OPEN}
       AND (CAST(:merchant_account AS text) IS NULL OR r.merchant_account = :merchant_account)
       AND (CAST(:owner AS text) IS NULL OR r.owner = :owner)
     ORDER BY r.opened_at, r.payment_id LIMIT :listed_max
    """
)

_ONE = text(f"{_OPEN} AND r.payment_id = :payment_id")

_BACKLOG = text(
    """
    SELECT count(*) AS reviews, min(opened_at) AS oldest_at FROM reviews
     WHERE closed_at IS NULL
       AND (CAST(:merchant_account AS text) IS NULL OR merchant_account = :merchant_account)
    """
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many payments wait for a person, and since when the oldest one does."""

    reviews: int
    oldest_at: datetime | None


def open_reviews(
    connection: Connection,
    *,
    now: datetime,
    merchant_account: str | None = None,
    owner: str | None = None,
) -> list[Json]:
    """Return what lies on a desk, or on all, oldest first. Amounts in minor units."""
    wanted = {"merchant_account": merchant_account, "owner": owner, "listed_max": LISTED_MAX}
    return [_view(row, now) for row in connection.execute(_LIST, wanted).mappings()]


def open_review(connection: Connection, payment_id: UUID, *, now: datetime) -> Json | None:
    """Return a payment's open review; None if it waits for nobody."""
    row = connection.execute(_ONE, {"payment_id": payment_id}).mappings().one_or_none()
    return _view(row, now) if row else None


def backlog(connection: Connection, *, merchant_account: str | None = None) -> Backlog:
    """Count what waits for a person, of an account or of all."""
    row = connection.execute(_BACKLOG, {"merchant_account": merchant_account}).one()
    return Backlog(row.reviews, row.oldest_at)


def _view(row: RowMapping, now: datetime) -> Json:
    funds = Funds.of(Fact.from_json(fact) for fact in row["facts"])
    return {
        "payment_id": str(row["payment_id"]),
        "merchant_account": row["merchant_account"],
        "merchant_reference": row["merchant_reference"],
        "psp_reference": row["psp_reference"],
        "owner": row["owner"],
        "opened_at": instant(row["opened_at"]),
        "age_seconds": age_seconds(row["opened_at"], now),
        "reason": row["reason"],
        "step": row["step"],
        "next_step": row["next_step"],
        "amount": {"value": row["amount_minor"], "currency": row["currency"]},
        "held": funds.held,
        "kept": funds.kept,
        "version": row["version"],
    }
