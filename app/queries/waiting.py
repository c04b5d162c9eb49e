"""Stored webhooks that are not applied: how many, why, and for how long."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import Connection, text

from app.queries.ages import age_seconds
from app.queries.payments import Json, instant

#: Webhooks of one list.
LISTED_MAX = 50

#: Orphans are counted by their age: one of a minute is ordinary, one of a day is a question.
AGES = MappingProxyType(
    {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
)

_SUMMARY = text(
    """
    SELECT CASE WHEN w.state = 'parked' AND (w.awaits_psp_reference IS NOT NULL
                     OR w.awaits_merchant_reference IS NOT NULL)
                THEN 'orphan' ELSE w.state END AS reason,
           count(*) AS webhooks, min(i.received_at) AS oldest_at,
           count(*) FILTER (WHERE i.received_at < :minute) AS over_a_minute,
           count(*) FILTER (WHERE i.received_at < :hour) AS over_an_hour,
           count(*) FILTER (WHERE i.received_at < :day) AS over_a_day
      FROM inbox_work w JOIN webhook_inbox i USING (guid)
     WHERE CAST(:merchant_account AS text) IS NULL OR i.merchant_account = :merchant_account
     GROUP BY reason
    """
)

_LIST = text(
    """
    SELECT i.guid, i.event_code, i.success, i.psp_reference, i.original_reference,
           i.merchant_reference, i.received_at, w.state, w.attempts, w.error, w.due
      FROM inbox_work w JOIN webhook_inbox i USING (guid)
     WHERE i.merchant_account = :merchant_account
     ORDER BY w.state <> 'dead', i.received_at, i.guid
     LIMIT :listed_max
    """
)

#: Orphans are few, and found by what they await.
_OLDEST_ORPHAN = text(
    """
    SELECT min(i.received_at) FROM inbox_work w JOIN webhook_inbox i USING (guid)
     WHERE w.state = 'parked'
       AND (w.awaits_psp_reference IS NOT NULL OR w.awaits_merchant_reference IS NOT NULL)
    """
)


class Reason(StrEnum):
    """Why a webhook waits."""

    NEW = "new"  #: for a worker
    ORPHAN = "orphan"  #: for its payment
    PARKED = "parked"  #: for a release that understands it
    DEAD = "dead"  #: for a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The webhooks that wait for one reason, counted by age since they were received."""

    reason: Reason
    webhooks: int = 0
    oldest_at: datetime | None = None
    over_a_minute: int = 0
    over_an_hour: int = 0
    over_a_day: int = 0

    def as_json(self, now: datetime) -> Json:
        """Return what is shown; ages in whole seconds, null if none waits."""
        return {
            "reason": self.reason.value,
            "webhooks": self.webhooks,
            "oldest_seconds": age_seconds(self.oldest_at, now) if self.oldest_at else None,
            "over_a_minute": self.over_a_minute,
            "over_an_hour": self.over_an_hour,
            "over_a_day": self.over_a_day,
        }


def waiting_by_reason(
    connection: Connection, *, now: datetime, merchant_account: str | None
) -> dict[Reason, Waiting]:
    """Return what waits, of an account or of all; every reason is there, with zero if need be."""
    values = {
        "merchant_account": merchant_account,
        **{name: now - age for name, age in AGES.items()},
    }
    found = {row.reason: row for row in connection.execute(_SUMMARY, values)}
    return {
        reason: Waiting(**found[reason]._asdict() | {"reason": reason})
        if reason in found
        else Waiting(reason=reason)
        for reason in Reason
    }


def waiting_webhooks(connection: Connection, *, merchant_account: str) -> list[Json]:
    """Return an account's webhooks that are not applied: dead ones first, then the oldest."""
    values = {"merchant_account": merchant_account, "listed_max": LISTED_MAX}
    return [
        {
            **row,
            "guid": str(row["guid"]),
            "received_at": instant(row["received_at"]),
            "due": instant(row["due"]),
        }
        for row in connection.execute(_LIST, values).mappings()
    ]


def oldest_orphan_at(connection: Connection) -> datetime | None:
    """Return when the webhook was received that has waited longest for its payment."""
    at: datetime | None = connection.execute(_OLDEST_ORPHAN).scalar_one()
    return at
