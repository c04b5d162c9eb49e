"""Payments as they are shown: one view for the API, the command line and stored answers."""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from app.domain.flow import REST_STATES
from app.domain.payment import Payment
from app.errors import InvalidFields, PaymentNotFound

Json = dict[str, object]

_COLUMNS = """payment_id, merchant_account, merchant_reference, psp_reference, state, reason,
    amount_minor, currency, funds_status, authorised, captured, refunded, charged_back, cancelled,
    version, created_at, updated_at"""

_ONE = text(
    f"SELECT {_COLUMNS} FROM payments WHERE payment_id = :payment_id"  # noqa: S608  # a constant
    " AND (CAST(:merchant_account AS text) IS NULL OR merchant_account = :merchant_account)"
)

_AT_REST = text(
    f"SELECT {_COLUMNS} FROM payments"  # noqa: S608  # a constant
    " WHERE (payment_id = ANY(:payment_ids) AND state = ANY(:rest_states))"
    " OR payment_id = ANY(:or_any_of)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFilter:
    """Which payments to list. None does not filter.

    Attributes:
        merchant_account: Required of merchants; None lists every account's.
        any_reference: The merchant's, the PSP's, or the payment's id.
        cursor: The ``next_cursor`` of the page before.
        limit: Items on a page.
    """

    merchant_account: str | None
    merchant_reference: str | None = None
    psp_reference: str | None = None
    any_reference: str | None = None
    state: str | None = None
    cursor: str | None = None
    limit: int = 50


def payment_json(payment: Payment) -> Json:
    """Return a payment as the API shows it (contract.md section 4)."""
    funds = payment.funds
    return _view(
        {
            "payment_id": payment.payment_id,
            "merchant_account": payment.merchant_account,
            "merchant_reference": payment.merchant_reference,
            "psp_reference": payment.psp_reference,
            "state": payment.state,
            "reason": payment.reason,
            "amount_minor": payment.amount.amount_minor,
            "currency": payment.amount.currency,
            "funds_status": funds.status,
            "authorised": funds.authorised,
            "captured": funds.captured,
            "refunded": funds.refunded,
            "charged_back": funds.charged_back,
            "cancelled": funds.cancelled,
            "version": payment.version,
            "created_at": payment.created_at,
            "updated_at": payment.updated_at,
        }
    )


def get_payment(connection: Connection, payment_id: UUID, *, merchant_account: str | None) -> Json:
    """Return one payment.

    Args:
        connection: Read from here.
        payment_id: Which one.
        merchant_account: Whose it must be; None for any.

    Raises:
        PaymentNotFound: There is none, or it is another account's: the two look alike.
    """
    values = {"payment_id": payment_id, "merchant_account": merchant_account}
    row = connection.execute(_ONE, values).mappings().one_or_none()
    if row is None:
        raise PaymentNotFound
    return _view(row)


def payments_at_rest(
    connection: Connection, payment_ids: Collection[UUID], *, or_any_of: Collection[UUID]
) -> dict[UUID, Json]:
    """Return those of the payments that rest, and those of ``or_any_of`` wherever they are."""
    values = {
        "payment_ids": list(payment_ids),
        "rest_states": [state.value for state in REST_STATES],
        "or_any_of": list(or_any_of),
    }
    rows = connection.execute(_AT_REST, values).mappings()
    return {row["payment_id"]: _view(row) for row in rows}


def list_payments(connection: Connection, wanted: PaymentFilter) -> Json:
    """Return a page of payments, newest first, and the cursor of the next page or null.

    The cursor is a place in (created_at, payment_id), so that payments that are started meanwhile
    neither repeat nor hide an item.

    Raises:
        InvalidFields: The cursor is none of ours.
    """
    conditions = ["TRUE"]
    values: dict[str, object] = {"limit": wanted.limit + 1}
    for name in ("merchant_account", "merchant_reference", "psp_reference", "state"):
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(f"{name} = :{name}")
            values[name] = value
    if wanted.any_reference is not None:
        conditions.append(
            ":any_reference IN (merchant_reference, psp_reference, CAST(payment_id AS text))"
        )
        values["any_reference"] = wanted.any_reference
    if wanted.cursor:
        conditions.append("(created_at, payment_id) < (:created_at, :payment_id)")
        values |= _place(wanted.cursor)
    query = text(
        f"SELECT {_COLUMNS} FROM payments WHERE {' AND '.join(conditions)}"  # noqa: S608  # names
        " ORDER BY created_at DESC, payment_id DESC LIMIT :limit"
    )
    rows = connection.execute(query, values).mappings().all()
    page = rows[: wanted.limit]
    has_more = len(rows) > wanted.limit
    return {
        "items": [_view(row) for row in page],
        "next_cursor": _cursor(page[-1]) if has_more else None,
    }


def _view(row: Mapping[str, Any] | RowMapping) -> Json:
    return {
        "id": str(row["payment_id"]),
        "merchant_account": row["merchant_account"],
        "merchant_reference": row["merchant_reference"],
        "psp_reference": row["psp_reference"],
        "state": str(row["state"]),
        "reason": row["reason"],
        "amount": {"value": row["amount_minor"], "currency": row["currency"]},
        "funds": {
            "status": str(row["funds_status"]),
            "authorised": row["authorised"],
            "captured": row["captured"],
            "refunded": row["refunded"],
            "charged_back": row["charged_back"],
            "cancelled": row["cancelled"],
        },
        "version": row["version"],
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
    }


def instant(at: datetime) -> str:
    """Write an aware UTC time as RFC 3339 with microseconds and Z."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _cursor(row: RowMapping) -> str:
    place = json.dumps([row["created_at"].isoformat(), str(row["payment_id"])])
    return base64.urlsafe_b64encode(place.encode()).decode("ascii")


def _place(cursor: str) -> dict[str, object]:
    try:
        created_at, payment_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return {
            "created_at": datetime.fromisoformat(created_at),
            "payment_id": UUID(payment_id),
        }
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise InvalidFields({"cursor": "is not a next_cursor of this list"}) from None
