"""The inbox: every authentic webhook, once, on disk before it is acknowledged."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Result, RowMapping, delete, text

from app import failpoints
from app.clock import Clock
from app.errors import NotificationNotFound
from app.persistence.batch import PaymentName
from app.persistence.direct import DirectConnection
from app.persistence.recordset import as_rows, update_rows
from app.persistence.seen import SeenCache
from app.persistence.tables import InboxState, Scheme, inbox_work
from webhooks.group_commit import GroupCommit
from webhooks.key_uses import KeyUses
from webhooks.notifications import Notification

#: How far ahead of our clock an event date is believed: beyond that it is no date but a trick.
AHEAD_MAX = timedelta(days=366)

#: Bounds the size of a statement, and how much work one outage takes back.
DELIVERIES_A_COMMIT_MAX = 200


@dataclass(frozen=True, slots=True)
class Verified:
    """A notification whose signature was checked, the key that made it, and how."""

    notification: Notification
    hmac_key_id: UUID
    scheme: Scheme = Scheme.ITEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A stored webhook, where it stands, and the latest details that were delivered.

    Attributes:
        attempts: Tries so far that failed.
        error: Why it was not applied the last time, if it was not.
        is_again: It was applied before; a redelivery brought another date.
        event_date: The latest of all deliveries; the body is of that one.
        first_event_date: The earliest of all deliveries.
    """

    guid: UUID
    state: InboxState
    attempts: int
    error: str | None
    is_again: bool
    merchant_account: str
    body: bytes
    scheme: Scheme
    event_date: datetime
    first_event_date: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class PutOff:
    """A webhook that stays on the work list, and why.

    Attributes:
        due: When it is looked at again.
        attempts: Tries that failed.
        awaits: The payment that it waits for, if it is an orphan.
    """

    guid: UUID
    state: InboxState
    error: str | None
    due: datetime
    attempts: int
    awaits: PaymentName | None = None


@dataclass(frozen=True, slots=True)
class _Delivery:
    body: bytes
    items: Sequence[Verified]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One item of one delivery."""

    delivery: _Delivery
    item: Verified

    @property
    def guid(self) -> UUID:
        return self.item.notification.guid

    @property
    def told_date(self) -> datetime | None:
        """The event date; None if it can't be read, or lies where nobody can know it yet.

        It is not signed, and the latest one counts: one from years ahead would outweigh all others.
        """
        told = self.item.notification.event_date
        if told is None or told > self.delivery.received_at + AHEAD_MAX:
            return None
        return told

    @property
    def event_date(self) -> datetime:
        return self.told_date or self.delivery.received_at


class Inbox:
    """Stores webhooks: one round trip to Redis and one commit for all deliveries that wait."""

    def __init__(
        self, connection: DirectConnection, seen: SeenCache, key_uses: KeyUses, clock: Clock
    ) -> None:
        """Store through ``connection``, which is this inbox's alone; ask ``seen`` first."""
        self._connection = connection
        self._seen = seen
        self._key_uses = key_uses
        self._clock = clock
        self._commits = GroupCommit(
            self._flush,
            afterwards=self._count,
            on_stall=connection.abandon,
            batch_max=DELIVERIES_A_COMMIT_MAX,
        )

    def store(self, body: bytes, items: Sequence[Verified]) -> None:
        """Put every item on disk, or note that it was delivered again.

        When this returns, the delivery may be acknowledged: nothing that happens to any process, or
        to Redis, loses it.

        Raises:
            StoreUnavailable: Postgres can't be written now. Nothing may be acknowledged.
        """
        self._commits.store(_Delivery(body, items, self._clock.now()))

    def close(self) -> None:
        """Write what was counted, and close the connection. No webhook is waiting by then."""
        self._key_uses.flush()
        self._connection.close()

    def _flush(self, deliveries: Sequence[_Delivery]) -> None:
        """Store what is new, and note what is not, each by one statement.

        Redis says what is probably known, so that it is only noted. It may be newer than a database
        that was restored from a backup: what the database does not know is stored after all.
        """
        arrivals = [_Arrival(delivery, item) for delivery in deliveries for item in delivery.items]
        first = {arrival.guid: arrival for arrival in reversed(arrivals)}
        hinted = self._seen.seen(list(first))
        failpoints.hit("inbox.before_commit")
        stored = self._store([one for guid, one in first.items() if guid not in hinted])
        again = [one for one in arrivals if one.guid not in stored or first[one.guid] is not one]
        noted = self._note(again)
        unknown = [one for one in again if one.guid not in noted]
        if unknown:
            self._store([first[guid] for guid in {one.guid for one in unknown}])
            self._note([one for one in unknown if first[one.guid] is not one])
        failpoints.hit("inbox.after_commit")
        self._seen.remember(first.keys() - hinted)

    def _store(self, arrivals: Sequence[_Arrival]) -> set[UUID]:
        """Insert webhooks with their work; return those that were not there yet."""
        if not arrivals:
            return set()
        rows = [_row(arrival) for arrival in _in_order(arrivals)]
        return {guid for (guid,) in self._connection.execute(_STORE, {"rows": as_rows(rows)})}

    def _note(self, arrivals: Sequence[_Arrival]) -> set[UUID]:
        """Note redeliveries; return those whose webhook is there."""
        if not arrivals:
            return set()
        rows = [_redelivery(arrival) for arrival in _in_order(arrivals)]
        return {guid for (guid,) in self._connection.execute(_NOTE, {"rows": as_rows(rows)})}

    def _count(self, deliveries: Sequence[_Delivery]) -> None:
        for delivery in deliveries:
            for item in delivery.items:
                self._key_uses.count(item.hmac_key_id)
        self._key_uses.flush_if_due()


_STORE = """
    WITH stored AS (
        INSERT INTO webhook_inbox (
            guid, merchant_account, event_code, success, psp_reference, original_reference,
            merchant_reference, body, is_live, scheme, hmac_key_id, event_date, received_at)
        SELECT guid, merchant_account, event_code, success, psp_reference, original_reference,
               merchant_reference, body, is_live, scheme, hmac_key_id, event_date,
               received_at
          FROM json_to_recordset(%(rows)s) AS given (
            guid uuid, merchant_account text, event_code text, success boolean,
            psp_reference text, original_reference text, merchant_reference text, body bytea,
            is_live boolean, scheme text, hmac_key_id uuid, event_date timestamptz,
            received_at timestamptz)
        ON CONFLICT DO NOTHING
        RETURNING guid, received_at
    )
    INSERT INTO inbox_work (guid, due) SELECT guid, received_at FROM stored RETURNING guid
"""

#: A redelivery with the latest event date of all brings the details that count from now on, and
#: one with the earliest tells when it happened: either is applied once more (psp-webhooks.md
#: section 4; a capture that is repeated after it failed has the GUID of the first one). The lock
#: waits for a retention that is just deleting the webhook, which is then not there.
_NOTE = """
    WITH given AS (
        SELECT * FROM json_to_recordset(%(rows)s) AS given (
            guid uuid, body bytea, event_date timestamptz, received_at timestamptz)
    ), judged AS (
        SELECT given.*,
               given.body IS NOT NULL AND given.event_date > greatest(
                   stored.event_date,
                   (SELECT max(event_date) FROM webhook_redeliveries before
                     WHERE before.guid = given.guid AND before.body IS NOT NULL)) AS is_latest,
               given.event_date < least(
                   stored.event_date,
                   (SELECT min(event_date) FROM webhook_redeliveries before
                     WHERE before.guid = given.guid)) AS is_earliest
          FROM given JOIN webhook_inbox stored USING (guid)
           FOR KEY SHARE OF stored
    ), noted AS (
        INSERT INTO webhook_redeliveries (guid, body, event_date, received_at)
        SELECT guid, CASE WHEN is_latest THEN body END, event_date, received_at FROM judged
    ), work AS (
        INSERT INTO inbox_work (guid, due, is_again)
        SELECT guid, max(received_at), true FROM judged
         WHERE is_latest OR is_earliest GROUP BY guid ORDER BY guid
        ON CONFLICT (guid) DO UPDATE
           SET due = excluded.due, state = 'new', attempts = 0, error = NULL
    )
    SELECT guid FROM judged
"""


def _in_order(arrivals: Sequence[_Arrival]) -> list[_Arrival]:
    """Two processes that store the same webhooks in one order never wait for each other."""
    return sorted(arrivals, key=lambda arrival: arrival.guid.bytes)


def _row(arrival: _Arrival) -> dict[str, object]:
    notification = arrival.item.notification
    return {
        "guid": notification.guid,
        "merchant_account": notification.merchant_account,
        "event_code": notification.event_code,
        "success": notification.success,
        "psp_reference": notification.psp_reference,
        "original_reference": notification.original_reference,
        "merchant_reference": notification.merchant_reference,
        "body": arrival.delivery.body,
        "is_live": notification.is_live,
        "scheme": arrival.item.scheme,
        "hmac_key_id": arrival.item.hmac_key_id,
        "event_date": arrival.event_date,
        "received_at": arrival.delivery.received_at,
    }


def _redelivery(arrival: _Arrival) -> dict[str, object]:
    """Return a redelivery's row. Without a date it brings no later details: no body then."""
    return {
        "guid": arrival.guid,
        "body": arrival.delivery.body if arrival.told_date else None,
        "event_date": arrival.event_date,
        "received_at": arrival.delivery.received_at,
    }


def claim_due(connection: Connection, *, now: datetime, limit: int) -> list[Work]:
    """Lock the webhooks that have been due longest until the transaction ends.

    Rows that another worker has locked are skipped. A worker that dies loses its locks with its
    connection, so that the rows are free again at once.
    """
    return _read(connection, connection.execute(_CLAIM_DUE, {"now": now, "limit": limit}))


def claim(connection: Connection, guids: Collection[UUID]) -> list[Work]:
    """Lock webhooks on the work list, but those that are done or that another worker has."""
    return _read(connection, connection.execute(_CLAIM, {"guids": list(guids)}))


def reopen(connection: Connection, guids: Collection[UUID], *, now: datetime) -> list[Work]:
    """Put webhooks that are done on the work list again, and lock all of ``guids``.

    Returns:
        Those that no worker has, in the order of their arrival.

    Raises:
        NotificationNotFound: Some are not stored. Nothing is locked then, once the caller leaves.
    """
    values = {"guids": list(guids), "now": now}
    stored = set(connection.execute(_KEEP, values).scalars())
    unknown = [str(guid) for guid in guids if guid not in stored]
    if unknown:
        raise NotificationNotFound(", ".join(unknown))
    connection.execute(_REOPEN, values)
    return sorted(claim(connection, guids), key=lambda work: work.received_at)


def look(connection: Connection, guid: UUID) -> Work:
    """Return one webhook, done or not, without a lock.

    Raises:
        NotificationNotFound: It is not stored.
    """
    for work in _read(connection, connection.execute(_STANDING, {"guid": guid})):
        return work
    raise NotificationNotFound(str(guid))


def finish(connection: Connection, guids: Collection[UUID]) -> None:
    """Take webhooks off the work list, in the transaction that applied them."""
    if guids:
        connection.execute(delete(inbox_work).where(inbox_work.c.guid.in_(guids)))


def put_off(connection: Connection, put_offs: Sequence[PutOff]) -> None:
    """Keep webhooks for another look, or for an operator."""
    if not put_offs:
        return
    rows = [
        {
            "guid": one.guid,
            "state": one.state,
            "error": one.error,
            "due": one.due,
            "attempts": one.attempts,
            "awaits_account": one.awaits and one.awaits.merchant_account,
            "awaits_merchant_reference": one.awaits and one.awaits.merchant_reference,
            "awaits_psp_reference": one.awaits and one.awaits.psp_reference,
        }
        for one in put_offs
    ]
    connection.execute(_PUT_OFF, {"rows": as_rows(rows)})


def _read(connection: Connection, standing: Result[Any]) -> list[Work]:
    """Read webhooks whose standing was locked, or looked at, by a statement of its own.

    A redelivery that was committed while that one ran has moved the row that it locked, but its
    details are seen by the next statement only.
    """
    rows = standing.mappings().all()
    if not rows:
        return []
    failpoints.hit("inbox.before_details")
    found = connection.execute(_DETAILS, {"guids": [row["guid"] for row in rows]}).mappings()
    details = {row["guid"]: row for row in found}
    finish(
        connection, [row["guid"] for row in rows if row["guid"] not in details]
    )  # no webhook left
    return [_work(row, details[row["guid"]]) for row in rows if row["guid"] in details]


def _work(standing: RowMapping, details: RowMapping) -> Work:
    values = {**standing, **details}
    return Work(
        **values | {"state": InboxState(values["state"]), "scheme": Scheme(values["scheme"])}
    )


_PUT_OFF = update_rows(
    inbox_work,
    "guid",
    [
        "state",
        "error",
        "due",
        "attempts",
        "awaits_account",
        "awaits_merchant_reference",
        "awaits_psp_reference",
    ],
)

_DETAILS = text(
    """
    SELECT i.guid, i.merchant_account, i.scheme, i.received_at,
           coalesce(later.body, i.body) AS body,
           coalesce(later.event_date, i.event_date) AS event_date,
           least(i.event_date, (SELECT min(event_date) FROM webhook_redeliveries r
                                 WHERE r.guid = i.guid)) AS first_event_date
      FROM webhook_inbox i
      LEFT JOIN LATERAL (
        SELECT body, event_date FROM webhook_redeliveries r
         WHERE r.guid = i.guid AND body IS NOT NULL ORDER BY event_date DESC LIMIT 1
      ) later ON true
     WHERE i.guid = ANY(:guids)
    """
)

_CLAIM_DUE = text(
    "SELECT guid, state, attempts, error, is_again FROM inbox_work"
    " WHERE due <= :now AND state <> 'dead' ORDER BY due LIMIT :limit FOR UPDATE SKIP LOCKED"
)
_CLAIM = text(
    "SELECT guid, state, attempts, error, is_again FROM inbox_work"
    " WHERE guid = ANY(:guids) ORDER BY due FOR UPDATE SKIP LOCKED"
)
_STANDING = text(
    "SELECT guid, coalesce(state, 'done') AS state, coalesce(attempts, 0) AS attempts, error,"
    " coalesce(is_again, true) AS is_again"
    " FROM webhook_inbox LEFT JOIN inbox_work USING (guid) WHERE guid = :guid"
)

#: Retention leaves a webhook alone that is held so, and one that has work.
_KEEP = text("SELECT guid FROM webhook_inbox WHERE guid = ANY(:guids) ORDER BY guid FOR KEY SHARE")

#: Work that a worker is just finishing is still there, and not waited for.
_REOPEN = text(
    """
    INSERT INTO inbox_work (guid, due, is_again)
    SELECT guid, :now, true FROM webhook_inbox
     WHERE guid = ANY(:guids)
       AND NOT EXISTS (SELECT FROM inbox_work w WHERE w.guid = webhook_inbox.guid)
     ORDER BY guid
    ON CONFLICT DO NOTHING
    """
)
