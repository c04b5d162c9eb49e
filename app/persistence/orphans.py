"""Webhooks that wait for their payment, woken by whoever brings it."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, text

from app.domain.payment import Payment
from app.persistence.recordset import as_rows

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
    known = [name for payment in payments for name in _names(payment)]
    if known:
        connection.execute(_WAKE, {"known": as_rows(known), "now": now})


def _names(payment: Payment) -> list[Mapping[str, str | None]]:
    return [
        {
            "account": payment.merchant_account,
            "merchant_reference": payment.merchant_reference,
            "psp_reference": reference,
        }
        for reference in payment.psp_references or [None]
    ]
