"""Is the PSP's queue moving, or are we blocking it, and with which webhook?

The queue is oldest first and blocking (psp-webhooks.md section 4): while we refuse one webhook, all
that come after it wait. What is told about refused webhooks is what they claim: anybody can post
them, so that only registered accounts are looked at, and nothing is concluded beyond an alarm.

Every query reads a bounded number of rows, whatever the size of the inbox.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import Connection, text

from app.domain.psp_retries import AT_ONCE, SILENCE, gaps_of, next_gap, scheduled
from app.errors import MerchantAccountNotFound
from app.queries.ages import age_seconds
from app.queries.payments import Json, instant
from app.queries.waiting import Reason, waiting_by_reason

#: One refusal may be a typing error of anybody's; the second one is a retry.
REFUSALS_MIN = 2
#: How far back redeliveries are told, and how many of the newest are looked at.
REDELIVERED_WITHIN = timedelta(days=1)
REDELIVERIES_MAX = 1000
#: How many of the newest deliveries tell when an account was last heard of; beyond them its keys'
#: uses do.
NEWEST_MAX = 1000
#: How many of the newest tries are told one by one.
TRIES_MAX = 10
#: Webhooks of one list.
LISTED_MAX = 50

_REFUSED = text(
    """
    WITH refused AS (
        SELECT claimed_account, claimed_guid, claimed_event, code, received_at,
               CASE WHEN claimed_guid IS NULL THEN md5(body) END AS body_digest
          FROM webhook_refusals JOIN merchant_accounts ON merchant_account = claimed_account
         WHERE CAST(:merchant_account AS text) IS NULL OR claimed_account = :merchant_account
    ), accepted AS (
        SELECT claimed_guid, greatest(first.received_at, again.received_at) AS at
          FROM (SELECT claimed_guid FROM refused WHERE claimed_guid IS NOT NULL
                 GROUP BY claimed_guid HAVING count(*) >= :refusals_min) AS retried
          LEFT JOIN webhook_inbox AS first ON first.guid = claimed_guid
          LEFT JOIN LATERAL (SELECT max(received_at) AS received_at FROM webhook_redeliveries
                              WHERE guid = claimed_guid) AS again ON TRUE
    )
    SELECT claimed_account, claimed_guid, max(claimed_event) AS claimed_event,
           count(*) AS refusals, min(received_at) AS since, max(received_at) AS last_refused_at,
           (array_agg(code ORDER BY received_at DESC))[1] AS code,
           (array_agg(received_at ORDER BY received_at DESC))[1:CAST(:tries_max AS int)] AS tries
      FROM refused LEFT JOIN accepted USING (claimed_guid)
     WHERE accepted.at IS NULL OR received_at > accepted.at
     GROUP BY claimed_account, claimed_guid, body_digest
    HAVING count(*) >= :refusals_min AND max(received_at) > :tried_since
     ORDER BY since
     LIMIT :listed_max
    """
)

_REDELIVERED = text(
    """
    SELECT i.guid, i.merchant_account, i.event_code, i.success, i.psp_reference,
           i.received_at AS first_received_at, recent.last_received_at, again.deliveries,
           newest.tries
      FROM (SELECT guid, max(received_at) AS last_received_at
              FROM (SELECT guid, received_at FROM webhook_redeliveries
                     WHERE received_at > :since
                     ORDER BY received_at DESC LIMIT :redeliveries_max) AS looked_at
             GROUP BY guid) AS recent
      JOIN webhook_inbox AS i USING (guid)
     CROSS JOIN LATERAL (SELECT 1 + count(*) AS deliveries FROM webhook_redeliveries
                          WHERE guid = i.guid) AS again
     CROSS JOIN LATERAL (
            SELECT array_agg(received_at ORDER BY received_at DESC) AS tries
              FROM (SELECT i.received_at UNION ALL
                    SELECT received_at FROM webhook_redeliveries WHERE guid = i.guid
                     ORDER BY received_at DESC LIMIT :tries_max) AS delivered
           ) AS newest
     WHERE CAST(:merchant_account AS text) IS NULL OR i.merchant_account = :merchant_account
     ORDER BY recent.last_received_at DESC, i.guid
    """
)

_LAST_WEBHOOKS = text(
    """
    WITH heard AS (
        SELECT merchant_account, received_at AS at
          FROM (SELECT merchant_account, received_at FROM webhook_inbox
                 ORDER BY received_at DESC LIMIT :newest_max) AS first
        UNION ALL
        SELECT i.merchant_account, again.received_at
          FROM (SELECT guid, received_at FROM webhook_redeliveries
                 ORDER BY received_at DESC LIMIT :newest_max) AS again
          JOIN webhook_inbox AS i USING (guid)
        UNION ALL
        SELECT merchant_account, used.last_used_at
          FROM hmac_keys CROSS JOIN LATERAL (
                SELECT last_used_at FROM hmac_key_uses WHERE key_id = hmac_keys.key_id
                 ORDER BY day DESC LIMIT 1) AS used
    )
    SELECT merchant_account, max(at) AS at
      FROM merchant_accounts LEFT JOIN heard USING (merchant_account)
     WHERE CAST(:merchant_account AS text) IS NULL OR merchant_account = :merchant_account
     GROUP BY merchant_account ORDER BY merchant_account
    """
)


_REFUSALS_BY_CODE = text(
    "SELECT code, count(*) AS refusals FROM webhook_refusals WHERE received_at > :since"
    " GROUP BY code"
)

_REDELIVERIES = text("SELECT count(*) FROM webhook_redeliveries WHERE received_at > :since")


class Reading(StrEnum):
    """What the times of a webhook's deliveries say."""

    SENT_TWICE = "sent_twice"
    RETRIED = "retried"
    UNEXPLAINED = "unexplained"


_EXPLANATIONS = MappingProxyType(
    {
        Reading.SENT_TWICE: "within seconds: two webhook configurations rather than retries",
        Reading.RETRIED: "on the PSP's schedule: it did not get our 200 in time",
        Reading.UNEXPLAINED: "not on the PSP's schedule: sent again by hand, or replayed",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedWebhook:
    """A webhook that the PSP, or somebody who claims to be, goes on trying in vain.

    Attributes:
        claimed_guid: None if the body could not be read.
        code: Why it was refused last.
        refusals: Since it was last accepted, if it ever was. Refusals are kept within bounds, so
            that there may have been more.
        since: The first of them.
        tries: The newest of them, oldest first.
    """

    claimed_account: str
    claimed_guid: UUID | None
    claimed_event: str | None
    code: str
    refusals: int
    since: datetime
    last_refused_at: datetime
    tries: tuple[datetime, ...]

    @property
    def next_try_at(self) -> datetime:
        """When the PSP's schedule has it try again."""
        return self.last_refused_at + next_gap(self.last_refused_at - self.since)

    @property
    def is_on_schedule(self) -> bool:
        """True if all told tries came as the PSP's would; a stranger's rarely do."""
        return all(scheduled(gap) for gap in gaps_of(self.tries))

    def as_json(self, now: datetime) -> Json:
        """Return what is shown; everything about the webhook is claimed, nothing verified."""
        return {
            "claimed_guid": str(self.claimed_guid) if self.claimed_guid else None,
            "claimed_event": self.claimed_event,
            "is_verified": False,
            "code": self.code,
            "refusals": self.refusals,
            "since": instant(self.since),
            "blocked_seconds": age_seconds(self.since, now),
            "last_refused_at": instant(self.last_refused_at),
            "gaps": _gaps(self.tries),
            "is_on_schedule": self.is_on_schedule,
            "next_try_at": instant(self.next_try_at),
            "is_overdue": self.next_try_at < now,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeliveredWebhook:
    """A webhook that was accepted and came again.

    Attributes:
        deliveries: All of them, the first included.
        tries: The newest of them, oldest first.
    """

    guid: UUID
    merchant_account: str
    event_code: str
    success: bool
    psp_reference: str
    first_received_at: datetime
    last_received_at: datetime
    deliveries: int
    tries: tuple[datetime, ...]

    @property
    def reading(self) -> Reading:
        """What the gaps between the deliveries say."""
        gaps = gaps_of(self.tries)
        if all(gap <= AT_ONCE for gap in gaps):
            return Reading.SENT_TWICE
        if any(scheduled(gap) for gap in gaps):
            return Reading.RETRIED
        return Reading.UNEXPLAINED

    def as_json(self) -> Json:
        """Return what is shown."""
        return {
            "guid": str(self.guid),
            "merchant_account": self.merchant_account,
            "event_code": self.event_code,
            "success": self.success,
            "psp_reference": self.psp_reference,
            "deliveries": self.deliveries,
            "first_received_at": instant(self.first_received_at),
            "last_received_at": instant(self.last_received_at),
            "gaps": _gaps(self.tries),
            "reading": self.reading.value,
            "explanation": _EXPLANATIONS[self.reading],
        }


def refused_webhooks(
    connection: Connection, *, now: datetime, merchant_account: str | None = None
) -> list[RefusedWebhook]:
    """Return what registered accounts are being refused now, the longest blocked first.

    A webhook counts if it was refused at least twice since it was last accepted, and lately enough
    for the PSP to be still trying: what it was told to ignore drops out by itself.
    """
    values = {
        "merchant_account": merchant_account,
        "refusals_min": REFUSALS_MIN,
        "tried_since": now - SILENCE,
        "tries_max": TRIES_MAX,
        "listed_max": LISTED_MAX,
    }
    return [
        RefusedWebhook(**(row._asdict() | {"tries": _newest_last(row.tries)}))
        for row in connection.execute(_REFUSED, values)
    ]


def redelivered_webhooks(
    connection: Connection, *, now: datetime, merchant_account: str | None = None
) -> list[RedeliveredWebhook]:
    """Return the accepted webhooks that came again in the last day, the newest redelivery first.

    Only the newest redeliveries of all accounts are looked at, so that a day on which everything
    comes twice costs no more than another.
    """
    values = {
        "merchant_account": merchant_account,
        "since": now - REDELIVERED_WITHIN,
        "redeliveries_max": REDELIVERIES_MAX,
        "tries_max": TRIES_MAX,
    }
    return [
        RedeliveredWebhook(**(row._asdict() | {"tries": _newest_last(row.tries)}))
        for row in connection.execute(_REDELIVERED, values)
    ]


def last_webhooks(
    connection: Connection, *, merchant_account: str | None = None
) -> dict[str, datetime | None]:
    """Return when each registered account was last heard of, new or again; None for never."""
    values = {"merchant_account": merchant_account, "newest_max": NEWEST_MAX}
    return {row.merchant_account: row.at for row in connection.execute(_LAST_WEBHOOKS, values)}


def refusals_last_hour(connection: Connection, *, now: datetime) -> dict[str, int]:
    """Return how many refusals were kept in the last hour by code: at most 60 a minute and process.

    A code that was not refused is absent.
    """
    rows = connection.execute(_REFUSALS_BY_CODE, {"since": now - timedelta(hours=1)})
    return {row.code: row.refusals for row in rows}


def redeliveries_last_hour(connection: Connection, *, now: datetime) -> int:
    """Return how many deliveries of the last hour were not the first of their webhook."""
    since = {"since": now - timedelta(hours=1)}
    return int(connection.execute(_REDELIVERIES, since).scalar_one())


def psp_queue(
    connection: Connection, *, now: datetime, merchant_account: str | None = None
) -> Json:
    """Return the health of the PSP's queue, for one registered account or for all.

    It is unhealthy while the PSP is being refused, and while a dead webhook waits for a person.

    Raises:
        MerchantAccountNotFound: No such account: its silence must not look like health.
    """
    heard = last_webhooks(connection, merchant_account=merchant_account)
    if merchant_account is not None and not heard:
        raise MerchantAccountNotFound(merchant_account)
    refused = refused_webhooks(connection, now=now, merchant_account=merchant_account)
    redelivered = redelivered_webhooks(connection, now=now, merchant_account=merchant_account)
    waiting = waiting_by_reason(connection, now=now, merchant_account=merchant_account)
    return {
        "as_of": instant(now),
        "is_healthy": not refused and not waiting[Reason.DEAD].webhooks,
        "accounts": [_account(name, at, refused, now) for name, at in heard.items()],
        "waiting": [one.as_json(now) for one in waiting.values()],
        "redelivered": {
            "within_seconds": int(REDELIVERED_WITHIN.total_seconds()),
            "looked_at_max": REDELIVERIES_MAX,
            "webhooks": len(redelivered),
            "newest": [one.as_json() for one in redelivered[:LISTED_MAX]],
        },
    }


def _account(
    name: str, heard_at: datetime | None, refused: Sequence[RefusedWebhook], now: datetime
) -> Json:
    """Return one account's part; the webhook at the head of its queue was refused first."""
    ours = [one for one in refused if one.claimed_account == name]
    return {
        "merchant_account": name,
        "last_webhook_at": instant(heard_at) if heard_at else None,
        "last_webhook_seconds": age_seconds(heard_at, now) if heard_at else None,
        "blocked_seconds": age_seconds(ours[0].since, now) if ours else None,
        "refused": [one.as_json(now) for one in ours],
    }


def _gaps(tries: Sequence[datetime]) -> list[Json]:
    """Return the waits between tries, each with the wait of the PSP's schedule that it fits."""
    return [
        {
            "seconds": int(gap.total_seconds()),
            "scheduled_seconds": int(wait.total_seconds()) if wait else None,
        }
        for gap, wait in ((gap, scheduled(gap)) for gap in gaps_of(tries))
    ]


def _newest_last(newest_first: Sequence[datetime]) -> tuple[datetime, ...]:
    return tuple(reversed(newest_first))
