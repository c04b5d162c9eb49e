"""The stored webhooks as operators see them: a list, and everything about one.

Every query reads a bounded number of rows, whatever the size of the inbox: what is not done is
found through the small work list, all else newest first through the time of arrival.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from app.queries.ages import age_seconds
from app.queries.payments import Json, instant

DONE = "done"

#: Webhooks that a list looks at, newest first, for those that its filters name.
LOOKED_AT_MAX = 100_000
#: Deliveries of one webhook that are told one by one, newest ones first: one that was captured can
#: be sent again for ever.
DELIVERIES_MAX = 1000

_IS_ORPHAN = (
    "w.state = 'parked' AND (w.awaits_merchant_reference IS NOT NULL"
    " OR w.awaits_psp_reference IS NOT NULL)"
)

_STANDING = f"""
    coalesce(w.state, 'done') AS state, coalesce({_IS_ORPHAN}, false) AS is_orphan,
    coalesce(w.attempts, 0) AS attempts, w.error, w.due, w.awaits_merchant_reference,
    w.awaits_psp_reference, i.guid, i.merchant_account, i.event_code, i.success, i.psp_reference,
    i.original_reference, i.merchant_reference, i.received_at
"""

_OF_THE_WORK_LIST = """
    SELECT i.guid FROM inbox_work w JOIN webhook_inbox i USING (guid)
     WHERE {conditions}
     ORDER BY i.received_at {direction}, i.guid LIMIT :limit
"""

_OF_ALL = """
    SELECT i.guid
      FROM (SELECT guid, merchant_account, event_code, received_at FROM webhook_inbox AS i
             WHERE {range} ORDER BY received_at DESC LIMIT :looked_at_max) AS i
     WHERE {conditions}
     ORDER BY i.received_at DESC, i.guid LIMIT :limit
"""

_PAGE = """
    WITH page AS MATERIALIZED ({page})
    SELECT {standing},
           (SELECT 1 + count(*) FROM webhook_redeliveries r WHERE r.guid = i.guid) AS deliveries
      FROM page JOIN webhook_inbox i USING (guid) LEFT JOIN inbox_work w USING (guid)
     ORDER BY i.received_at {direction}, i.guid
"""

_LOOKED_BACK_TO = """
    SELECT i.received_at FROM webhook_inbox AS i WHERE {range}
     ORDER BY i.received_at DESC OFFSET :looked_at_max LIMIT 1
"""

_ONE = text(
    f"""
    SELECT {_STANDING}, i.is_live, i.scheme, i.event_date, i.hmac_key_id,
           coalesce(w.is_again, false) AS is_again, k.check_value, k.expires_at AS key_expires_at
      FROM webhook_inbox i LEFT JOIN inbox_work w USING (guid)
      LEFT JOIN hmac_keys k ON k.key_id = i.hmac_key_id
     WHERE i.guid = :guid
    """  # noqa: S608  # a constant
)

_DELIVERIES = text(
    """
    WITH delivered AS (
        SELECT received_at, event_date, octet_length(body) AS body_bytes FROM webhook_inbox
         WHERE guid = :guid
        UNION ALL
        SELECT received_at, event_date, octet_length(body) FROM webhook_redeliveries
         WHERE guid = :guid
    )
    SELECT *, received_at - lag(received_at) OVER (ORDER BY received_at) AS gap,
           row_number() OVER (ORDER BY received_at) AS delivery, count(*) OVER () AS deliveries
      FROM delivered ORDER BY received_at DESC LIMIT :deliveries_max
    """
)

#: As the drain finds it (``BatchedPayments``): by our reference first; last of all by the PSP's
#: reference of another authorisation, which the payment does not carry.
_PAYMENT = text(
    """
    SELECT payment_id FROM (
        SELECT payment_id, created_at, 1 AS rank FROM payments
         WHERE merchant_account = :merchant_account AND merchant_reference = :merchant_reference
           AND is_ours
        UNION ALL
        SELECT payment_id, created_at, 2 FROM payments
         WHERE merchant_account = :merchant_account AND psp_reference = :psp_reference
        UNION ALL
        SELECT payment_id, created_at, 3
          FROM webhook_inbox stored JOIN payments USING (merchant_account, merchant_reference)
         WHERE merchant_account = :merchant_account AND stored.psp_reference = :psp_reference
           AND event_code = 'AUTHORISATION' AND is_ours
    ) AS named ORDER BY rank, created_at LIMIT 1
    """
)

_EVENTS = text(
    "SELECT seq, kind, data, at FROM payment_events"
    " WHERE payment_id = :payment_id AND cause = :cause ORDER BY seq"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxFilter:
    """Which webhooks to list. None does not filter.

    Attributes:
        state: ``new``, ``parked``, ``dead`` or ``done``.
        is_orphan: True for those alone that wait for their payment.
        since: Received then or later.
        until: Received before.
        limit: Webhooks on the list.
    """

    state: str | None = None
    is_orphan: bool = False
    merchant_account: str | None = None
    event_code: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50

    @property
    def is_of_the_work_list(self) -> bool:
        """True if none of them is done."""
        return self.is_orphan or self.state not in {None, DONE}

    @property
    def range(self) -> str:
        """The SQL condition on the time of arrival."""
        conditions = ["TRUE"]
        if self.since is not None:
            conditions.append("i.received_at >= :since")
        if self.until is not None:
            conditions.append("i.received_at < :until")
        return " AND ".join(conditions)

    @property
    def conditions(self) -> str:
        """The SQL condition on all else."""
        conditions = ["TRUE"]
        if self.is_orphan:
            conditions.append(_IS_ORPHAN)
        if self.state == DONE:
            conditions.append("NOT EXISTS (SELECT FROM inbox_work w WHERE w.guid = i.guid)")
        elif self.state is not None:
            conditions.append("w.state = :state")
        if self.merchant_account is not None:
            conditions.append("i.merchant_account = :merchant_account")
        if self.event_code is not None:
            conditions.append("i.event_code = :event_code")
        return " AND ".join(conditions)

    @property
    def values(self) -> dict[str, object]:
        """The values that the conditions name."""
        return {
            "state": self.state,
            "merchant_account": self.merchant_account,
            "event_code": self.event_code,
            "since": self.since,
            "until": self.until,
            "limit": self.limit,
            "looked_at_max": LOOKED_AT_MAX,
        }


def list_webhooks(connection: Connection, wanted: InboxFilter, *, now: datetime) -> list[Json]:
    """Return stored webhooks, newest first, each with where it stands."""
    template = _OF_THE_WORK_LIST if wanted.is_of_the_work_list else _OF_ALL
    return [_row(row, now) for row in _page(connection, wanted, template, direction="DESC")]


def oldest_waiting(connection: Connection, wanted: InboxFilter) -> list[UUID]:
    """Return the GUIDs of webhooks that are not done, oldest first."""
    return [row["guid"] for row in _page(connection, wanted, _OF_THE_WORK_LIST, direction="ASC")]


def looked_back_to(connection: Connection, wanted: InboxFilter) -> datetime | None:
    """Return how far back a list looked; None if at everything that it was asked for."""
    if wanted.is_of_the_work_list:
        return None
    query = text(_LOOKED_BACK_TO.format(range=wanted.range))
    at: datetime | None = connection.execute(query, wanted.values).scalar_one_or_none()
    return at


def get_webhook(connection: Connection, guid: UUID, *, now: datetime) -> Json | None:
    """Return where a webhook stands, which key signed it, and every delivery; None if not stored.

    What it says is not part of it: that is read from its body.
    """
    row = connection.execute(_ONE, {"guid": guid}).mappings().one_or_none()
    if row is None:
        return None
    values = {"guid": guid, "deliveries_max": DELIVERIES_MAX}
    found = connection.execute(_DELIVERIES, values).mappings().all()
    key = {"check_value": row["check_value"], "expires_at": _instant(row["key_expires_at"])}
    return _row({**row, "deliveries": found[0]["deliveries"]}, now) | {
        "is_live": row["is_live"],
        "event_date": instant(row["event_date"]),
        "is_again": row["is_again"],
        "scheme": row["scheme"],
        "key": key if row["check_value"] else None,
        "delivered": [_delivery(delivery) for delivery in reversed(found)],
    }


def find_payment(
    connection: Connection,
    *,
    merchant_account: str,
    merchant_reference: str | None,
    psp_reference: str | None,
) -> UUID | None:
    """Return the payment that a webhook names so; None if there is none."""
    values = {
        "merchant_account": merchant_account,
        "merchant_reference": merchant_reference,
        "psp_reference": psp_reference,
    }
    payment_id: UUID | None = connection.execute(_PAYMENT, values).scalar_one_or_none()
    return payment_id


def events_caused(connection: Connection, guid: UUID, payment_id: UUID) -> list[Json]:
    """Return the events of a payment that a webhook brought about, oldest first."""
    values = {"payment_id": payment_id, "cause": f"webhook:{guid}"}
    return [
        {**row, "at": instant(row["at"])} for row in connection.execute(_EVENTS, values).mappings()
    ]


def _page(
    connection: Connection, wanted: InboxFilter, template: str, *, direction: str
) -> list[RowMapping]:
    conditions = wanted.conditions
    if wanted.is_of_the_work_list:
        conditions = f"{conditions} AND {wanted.range}"
    page = template.format(range=wanted.range, conditions=conditions, direction=direction)
    query = text(_PAGE.format(page=page, standing=_STANDING, direction=direction))
    return list(connection.execute(query, wanted.values).mappings())


def _row(row: Any, now: datetime) -> Json:  # noqa: ANN401  # a row, or one that was added to
    awaits = {
        "merchant_reference": row["awaits_merchant_reference"],
        "psp_reference": row["awaits_psp_reference"],
    }
    return {
        "guid": str(row["guid"]),
        "state": row["state"],
        "merchant_account": row["merchant_account"],
        "event_code": row["event_code"],
        "success": row["success"],
        "psp_reference": row["psp_reference"],
        "original_reference": row["original_reference"],
        "merchant_reference": row["merchant_reference"],
        "received_at": instant(row["received_at"]),
        "age_seconds": age_seconds(row["received_at"], now),
        "deliveries": row["deliveries"],
        "attempts": row["attempts"],
        "due": _instant(row["due"]),
        "error": row["error"],
        "awaits": awaits if row["is_orphan"] else None,
    }


def _delivery(row: RowMapping) -> Json:
    """Tell one delivery; a body is kept of the first, and of those with later details."""
    gap = row["gap"]
    return {
        "delivery": row["delivery"],
        "received_at": instant(row["received_at"]),
        "event_date": instant(row["event_date"]),
        "seconds_since_previous": gap.total_seconds() if gap is not None else None,
        "has_later_details": row["delivery"] > 1 and row["body_bytes"] is not None,
    }


def _instant(at: datetime | None) -> str | None:
    return instant(at) if at is not None else None
