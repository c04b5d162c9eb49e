"""Open breaks, as they are listed."""

from sqlalchemy import Connection, text

from app.queries.payments import Json, instant

_OPEN = text(
    """
    SELECT break_id, kind, state, merchant_account, payment_id, subject, amount_minor, currency,
           opened_at
      FROM breaks
     WHERE state = 'open'
       AND (CAST(:merchant_account AS text) IS NULL OR merchant_account = :merchant_account)
     ORDER BY opened_at, break_id
    """
)


def open_breaks(connection: Connection, *, merchant_account: str | None) -> list[Json]:
    """Return the open breaks of an account, or of all, oldest first. Amounts in minor units."""
    rows = connection.execute(_OPEN, {"merchant_account": merchant_account}).mappings()
    return [
        {
            "break_id": str(row["break_id"]),
            "kind": row["kind"],
            "state": row["state"],
            "merchant_account": row["merchant_account"],
            "payment_id": str(row["payment_id"]) if row["payment_id"] else None,
            "subject": row["subject"],
            "amount_minor": row["amount_minor"],
            "currency": row["currency"],
            "opened_at": instant(row["opened_at"]),
        }
        for row in rows
    ]
