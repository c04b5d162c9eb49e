"""Webhooks that wait for their payment, woken by whoever brings it."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import orjson
from sqlalchemy import Connection, text

from app.domain.payment import Payment

#: A row that is locked is being looked at just now.
_WAKE = text(
    """
    WITH known AS (
        SELECT * FROM json_to_recordset(CAST(:known AS json)) AS known (
            account text, merchant_reference text, psp_reference text)
    ), orphans AS (
        SELECT guid FROM inbox_work
         WHERE guid IN (
            SELECT guid FROM known JOIN inbox_work ON awaits_account = account
               AND awaits_merchant_reference = merchant_reference
            UNION ALL
            SELECT guid FROM known JOIN inbox_work ON awaits_account = account
               AND awaits_psp_reference = psp_reference)
           FOR UPDATE SKIP LOCKED
    )
    UPDATE inbox_work SET due = :now FROM orphans WHERE inbox_work.guid = orphans.guid
    """
)


def wake_orphans(connection: Connection, payments: Iterable[Payment], *, now: datetime) -> None:
    """Make what awaits these payments due at once."""
    known = [_names(payment) for payment in payments]
    if known:
        connection.execute(_WAKE, {"known": orjson.dumps(known).decode(), "now": now})


def _names(payment: Payment) -> Mapping[str, str | None]:
    return {
        "account": payment.merchant_account,
        "merchant_reference": payment.merchant_reference,
        "psp_reference": payment.psp_reference,
    }
