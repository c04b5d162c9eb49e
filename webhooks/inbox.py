"""The inbox: every authentic webhook, once, on disk before it is acknowledged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, delete, insert, select, text, update

from app import failpoints
from app.clock import Clock
from app.errors import StoreUnavailable
from app.persistence.engine import is_unavailable
from app.persistence.seen import SeenCache
from app.persistence.tables import InboxState, inbox_work, webhook_inbox, webhook_redeliveries
from webhooks.group_commit import GroupCommit
from webhooks.notifications import Notification

#: No webhook of the PSP is nested deeper than three.
DEPTH_MAX = 32

#: Bounds the size of a statement, and how much work one outage takes back.
DELIVERIES_A_COMMIT_MAX = 200


@dataclass(frozen=True, slots=True)
class Verified:
    """A notification whose signature was checked, and the key that made it."""

    notification: Notification
    hmac_key_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A webhook on the work list, claimed."""

    guid: UUID
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWebhook:
    """A webhook as it was stored."""

    item: Mapping[str, object]
    is_live: bool
    event_date: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    body: bytes
    items: Sequence[Verified]
    received_at: datetime


class Inbox:
    """Stores webhooks: one round trip to Redis and one commit for all deliveries that wait."""

    def __init__(self, engine: Engine, seen: SeenCache, clock: Clock) -> None:
        """Store through ``engine``; ask ``seen`` first."""
        self._engine = engine
        self._seen = seen
        self._clock = clock
        self._commits = GroupCommit(
            self._flush, afterwards=self._remember, batch_max=DELIVERIES_A_COMMIT_MAX
        )

    def store(self, body: bytes, items: Sequence[Verified]) -> None:
        """Put every item on disk, or note that it was delivered again.

        When this returns, the delivery may be acknowledged: nothing that happens to any process, or
        to Redis, loses it.

        Raises:
            StoreUnavailable: Postgres can't be written now. Nothing may be acknowledged.
        """
        self._commits.store(_Delivery(body=body, items=items, received_at=self._clock.now()))

    def _flush(self, deliveries: Sequence[_Delivery]) -> None:
        first: dict[UUID, tuple[_Delivery, Verified]] = {}
        again: list[tuple[_Delivery, Verified]] = []
        for delivery in deliveries:
            for item in delivery.items:
                guid = item.notification.guid
                if guid in first:
                    again.append((delivery, item))
                else:
                    first[guid] = (delivery, item)
        hinted = self._seen.seen(list(first))
        try:
            with self._engine.begin() as connection:
                known = _stored_among(connection, hinted)
                new = {guid: one for guid, one in first.items() if guid not in known}
                known |= new.keys() - _insert(connection, new)
                again += [first[guid] for guid in known]
                _note_redeliveries(connection, again)
                failpoints.hit("inbox.before_commit")
        except Exception as error:
            if is_unavailable(error):
                raise StoreUnavailable from error
            raise
        failpoints.hit("inbox.after_commit")

    def _remember(self, deliveries: Sequence[_Delivery]) -> None:
        guids = {item.notification.guid for delivery in deliveries for item in delivery.items}
        self._seen.remember(list(guids))


def claim_next(connection: Connection, *, now: datetime) -> Work | None:
    """Lock the webhook that has been due longest until the transaction ends; None if none is free.

    Rows that another worker has locked are skipped. A worker that dies loses its lock with its
    connection, so that the row is free again at once.
    """
    work = inbox_work.c
    claim = (
        select(work.guid, work.attempts)
        .where(work.due <= now, work.state != InboxState.DEAD)
        .order_by(work.due)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(claim).one_or_none()
    return Work(**row._asdict()) if row else None


def load(connection: Connection, guid: UUID) -> StoredWebhook:
    """Return a stored webhook. One that can't be read fails alone."""
    stored = webhook_inbox.c
    query = select(stored.item, stored.is_live, stored.event_date, stored.received_at).where(
        stored.guid == guid
    )
    return StoredWebhook(**connection.execute(query).one()._asdict())


def finish(connection: Connection, guid: UUID) -> None:
    """Take the webhook off the work list, in the transaction that applied it."""
    connection.execute(delete(inbox_work).where(inbox_work.c.guid == guid))


def put_off(
    connection: Connection, work: Work, *, state: InboxState, error: str, due: datetime
) -> None:
    """Keep the webhook for another try, or for an operator, with the reason."""
    connection.execute(
        update(inbox_work)
        .where(inbox_work.c.guid == work.guid)
        .values(state=state, error=error, due=due, attempts=work.attempts + 1)
    )


def postpone(connection: Connection, guid: UUID, *, due: datetime) -> None:
    """Let the webhook be due later, untried."""
    connection.execute(update(inbox_work).where(inbox_work.c.guid == guid).values(due=due))


def _stored_among(connection: Connection, guids: frozenset[UUID]) -> set[UUID]:
    """Redis may be newer than a database that was restored from a backup: believe the database."""
    if not guids:
        return set()
    query = select(webhook_inbox.c.guid).where(webhook_inbox.c.guid.in_(guids))
    return set(connection.execute(query).scalars())


_INSERT = text(
    """
    WITH stored AS (
        INSERT INTO webhook_inbox (
            guid, merchant_account, event_code, success, psp_reference, original_reference,
            merchant_reference, item, body, is_live, hmac_key_id, event_date, received_at)
        SELECT guid, merchant_account, event_code, success, psp_reference, original_reference,
               merchant_reference, CAST(item AS jsonb), body, is_live, hmac_key_id, event_date,
               received_at
          FROM unnest(
            CAST(:guid AS uuid[]), CAST(:merchant_account AS text[]), CAST(:event_code AS text[]),
            CAST(:success AS boolean[]), CAST(:psp_reference AS text[]),
            CAST(:original_reference AS text[]), CAST(:merchant_reference AS text[]),
            CAST(:item AS text[]), CAST(:body AS bytea[]), CAST(:is_live AS boolean[]),
            CAST(:hmac_key_id AS uuid[]), CAST(:event_date AS timestamptz[]),
            CAST(:received_at AS timestamptz[])
          ) AS given (
            guid, merchant_account, event_code, success, psp_reference, original_reference,
            merchant_reference, item, body, is_live, hmac_key_id, event_date, received_at)
        ON CONFLICT DO NOTHING
        RETURNING guid, received_at
    )
    INSERT INTO inbox_work (guid, due) SELECT guid, received_at FROM stored RETURNING guid
    """
)


def _insert(connection: Connection, new: Mapping[UUID, tuple[_Delivery, Verified]]) -> set[UUID]:
    """Insert webhooks with their work; return those that were not there yet.

    In the order of their GUIDs, as everywhere: two processes that store the same webhooks must not
    wait for each other.
    """
    if not new:
        return set()
    rows = [_columns(*new[guid]) for guid in sorted(new)]
    arrays = {name: [row[name] for row in rows] for name in rows[0]}
    return set(connection.execute(_INSERT, arrays).scalars())


def _columns(delivery: _Delivery, item: Verified) -> dict[str, object]:
    notification = item.notification
    return {
        "guid": notification.guid,
        "merchant_account": notification.merchant_account,
        "event_code": notification.event_code,
        "success": notification.success,
        "psp_reference": notification.psp_reference,
        "original_reference": notification.original_reference,
        "merchant_reference": notification.merchant_reference,
        "item": json.dumps(_storable(notification.item), ensure_ascii=False),
        "body": delivery.body,
        "is_live": notification.is_live,
        "hmac_key_id": item.hmac_key_id,
        "event_date": notification.event_date or delivery.received_at,
        "received_at": delivery.received_at,
    }


def _note_redeliveries(connection: Connection, again: Sequence[tuple[_Delivery, Verified]]) -> None:
    if not again:
        return
    rows = [
        {
            "guid": item.notification.guid,
            "event_date": item.notification.event_date or delivery.received_at,
            "received_at": delivery.received_at,
        }
        for delivery, item in again
    ]
    connection.execute(insert(webhook_redeliveries), rows)


def _storable(value: object, *, depth: int = 0) -> object:
    """Replace what JSON may hold and Postgres can't: NUL, half characters. The body keeps them."""
    if depth > DEPTH_MAX:
        return "nested too deeply: see the body"
    match value:
        case str():
            return value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        case Mapping():
            return {
                str(_storable(name)): _storable(inner, depth=depth + 1)
                for name, inner in value.items()
            }
        case list():
            return [_storable(inner, depth=depth + 1) for inner in value]
        case _:
            return value


#: What `countersign inbox list` shows, newest first.
LIST_SQL = text(
    """
    SELECT i.guid, i.event_code, i.success, i.psp_reference, i.merchant_reference, i.received_at,
           coalesce(w.state, 'done') AS state, coalesce(w.attempts, 0) AS attempts, w.error
      FROM webhook_inbox i LEFT JOIN inbox_work w USING (guid)
     WHERE CAST(:state AS text) IS NULL OR coalesce(w.state, 'done') = :state
     ORDER BY i.received_at DESC, i.guid
     LIMIT :limit
    """
)

#: What `countersign inbox show` prints.
SHOW_SQL = text(
    """
    SELECT i.guid, i.merchant_account, i.event_code, i.success, i.psp_reference,
           i.original_reference, i.merchant_reference, i.event_date, i.received_at,
           coalesce(w.state, 'done') AS state, coalesce(w.attempts, 0) AS attempts, w.error, w.due,
           1 + (SELECT count(*) FROM webhook_redeliveries r WHERE r.guid = i.guid) AS deliveries,
           (SELECT max(r.received_at) FROM webhook_redeliveries r WHERE r.guid = i.guid)
               AS redelivered_at,
           i.item
      FROM webhook_inbox i LEFT JOIN inbox_work w USING (guid)
     WHERE i.guid = :guid
    """
)
