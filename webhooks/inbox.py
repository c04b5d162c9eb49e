"""The inbox: every authentic webhook, once, on disk before it is acknowledged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine, delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app import failpoints
from app.clock import Clock
from app.errors import StoreUnavailable
from app.persistence.engine import is_unavailable
from app.persistence.seen import SeenCache
from app.persistence.tables import InboxState, inbox_work, webhook_inbox, webhook_redeliveries
from webhooks.notifications import Notification


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


class Inbox:
    """Stores webhooks."""

    def __init__(self, engine: Engine, seen: SeenCache, clock: Clock) -> None:
        """Store through ``engine``; ask ``seen`` first."""
        self._engine = engine
        self._seen = seen
        self._clock = clock

    def store(self, body: bytes, items: Sequence[Verified]) -> None:
        """Put every item on disk in one commit, or note that it was delivered again.

        When this returns, the delivery may be acknowledged: nothing that happens to any process, or
        to Redis, loses it.

        Raises:
            StoreUnavailable: Postgres can't be written. Nothing may be acknowledged.
        """
        received_at = self._clock.now()
        # In one order everywhere: two deliveries of the same items must not wait for each other.
        items = sorted(items, key=lambda item: item.notification.guid)
        seen = self._seen.seen([item.notification.guid for item in items])
        try:
            with self._engine.begin() as connection:
                for item in items:
                    guid = item.notification.guid
                    is_stored = guid in seen and _exists(connection, guid)
                    if is_stored or not _insert(connection, body, item, received_at):
                        _note_redelivery(connection, item.notification, received_at)
                failpoints.hit("inbox.before_commit")
        except Exception as error:
            if is_unavailable(error):
                raise StoreUnavailable from error
            raise
        failpoints.hit("inbox.after_commit")
        self._seen.remember([item.notification.guid for item in items])


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


def oldest_waiting(connection: Connection, *, now: datetime) -> timedelta | None:
    """Return how long the oldest unprocessed webhook has been due; None if there is none."""
    query = select(inbox_work.c.due).where(inbox_work.c.state == InboxState.NEW)
    due = connection.execute(query.order_by(inbox_work.c.due).limit(1)).scalar_one_or_none()
    return now - due if due else None


def _exists(connection: Connection, guid: UUID) -> bool:
    """Redis may be newer than a database that was restored from a backup: believe the database."""
    query = select(webhook_inbox.c.guid).where(webhook_inbox.c.guid == guid)
    return connection.execute(query).one_or_none() is not None


def _insert(connection: Connection, body: bytes, item: Verified, received_at: datetime) -> bool:
    """Insert the webhook with its work; False if it is there already."""
    notification = item.notification
    stored = connection.execute(
        upsert(webhook_inbox)
        .values(
            guid=notification.guid,
            merchant_account=notification.merchant_account,
            event_code=notification.event_code,
            success=notification.success,
            psp_reference=notification.psp_reference,
            original_reference=notification.original_reference,
            merchant_reference=notification.merchant_reference,
            item=_storable(notification.item),
            body=body,
            is_live=notification.is_live,
            hmac_key_id=item.hmac_key_id,
            event_date=notification.event_date or received_at,
            received_at=received_at,
        )
        .on_conflict_do_nothing()
        .returning(webhook_inbox.c.guid)
    ).one_or_none()
    if stored is None:
        return False
    connection.execute(insert(inbox_work).values(guid=notification.guid, due=received_at))
    return True


def _note_redelivery(
    connection: Connection, notification: Notification, received_at: datetime
) -> None:
    connection.execute(
        insert(webhook_redeliveries).values(
            guid=notification.guid,
            event_date=notification.event_date or received_at,
            received_at=received_at,
        )
    )


def _storable(value: object) -> object:
    """Replace what JSON may hold and Postgres can't: NUL, half characters. The body keeps them."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        case Mapping():
            return {str(_storable(name)): _storable(inner) for name, inner in value.items()}
        case list():
            return [_storable(inner) for inner in value]
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
