"""Replay: an operator applies stored webhooks again, or looks at what would come of it.

A preview is the replay itself in a transaction that is rolled back, so that it can't tell anything
else than what would happen. Applying a webhook again is harmless: facts are a set.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, select

from app import failpoints
from app.clock import Clock
from app.domain.operators import Grounds, OperatorAction
from app.domain.payment import Payment
from app.persistence.batch import PaymentBusy, SqlBatch
from app.persistence.engine import is_contention, is_unavailable
from app.persistence.tables import InboxState, inbox_work
from app.queries.payments import Json
from webhooks import inbox
from webhooks.drain import Drain, Outcome, Reading, failed_try
from webhooks.inbox import PutOff, Work
from webhooks.replayed import PaymentDiff, Replayed, ReplayedWebhook, Result, values_of

ACTION = "replay"

#: Webhooks of one replay: one transaction, whose locks are held for some hundredths of a second.
REPLAY_MAX = 100


class Replay:
    """Applies stored webhooks again."""

    def __init__(self, *, batch: Callable[[], SqlBatch], drain: Drain, clock: Clock) -> None:
        """Apply through ``drain``, in a transaction of ``batch``."""
        self._batch = batch
        self._drain = drain
        self._clock = clock

    def run(self, guids: Collection[UUID], *, grounds: Grounds | None) -> Replayed:
        """Apply webhooks now: done, parked and dead ones alike, all in one transaction.

        One that fails takes nothing else along: it is tried alone, its try counts, and its error is
        kept. One that a worker has in its hands is left to it. Each of the others has a line in the
        audit log.

        Args:
            guids: At most ``REPLAY_MAX``.
            grounds: Who does it, and why; None to look only: everything is rolled back at the end.

        Raises:
            NotificationNotFound: Some are not stored; the message names them. Nothing is applied.
            StoreUnavailable: Postgres can't do it now. Nothing is applied.
        """
        now = self._clock.now()
        replayed = Replayed(is_preview=grounds is None)
        with self._batch() as batch:
            was_open = _open_work(batch.connection, guids)
            works = inbox.reopen(batch.connection, guids, now=now)
            found = self._apply(batch, works, now, replayed.payments)
            failpoints.hit("replay.before_end")
            if grounds is not None:
                for work in works:
                    one = found[work.guid]
                    diff = replayed.payments.get(one.payment_id) if one.payment_id else None
                    state = work.state if work.guid in was_open else InboxState.DONE
                    action = _audited(work, state, one, diff, grounds=grounds, now=now)
                    batch.operator_actions.add(action)
                batch.commit()
        replayed.webhooks = [
            found.get(guid) or ReplayedWebhook(guid=guid, result=Result.TAKEN)
            for guid in dict.fromkeys(guids)
        ]
        return replayed

    def _apply(
        self,
        batch: SqlBatch,
        works: Sequence[Work],
        now: datetime,
        diffs: dict[UUID, PaymentDiff],
    ) -> Mapping[UUID, ReplayedWebhook]:
        """Apply all together, and if that fails each alone, as the drain does."""
        try:
            with batch.attempt():
                outcomes = self._drain.apply(batch, works, now)
        except Exception as error:
            if is_unavailable(error) and not is_contention(error):
                raise
            if len(works) > 1:
                return {
                    guid: one
                    for work in works
                    for guid, one in self._apply(batch, [work], now, diffs).items()
                }
            [work] = works
            put_off = failed_try(work, error, now)
            inbox.put_off(batch.connection, [put_off])
            result = Result.BUSY if is_contention(error) else Result.FAILED
            return {work.guid: _left(put_off, result)}
        return {one.reading.work.guid: _told(batch, one, diffs) for one in outcomes}


def _open_work(connection: Connection, guids: Collection[UUID]) -> set[UUID]:
    """Return those that are not done."""
    query = select(inbox_work.c.guid).where(inbox_work.c.guid.in_(guids))
    return set(connection.execute(query).scalars())


def _audited(
    work: Work,
    state: InboxState,
    one: ReplayedWebhook,
    diff: PaymentDiff | None,
    *,
    grounds: Grounds,
    now: datetime,
) -> OperatorAction:
    """Return a webhook's line: what came of it, and of its payment in the whole replay."""
    return OperatorAction(
        grounds=grounds,
        action=ACTION,
        subject=str(work.guid),
        before={
            "webhook": {"state": state.value, "attempts": work.attempts, "error": work.error},
            "payment": _seen(diff.before) if diff and diff.before else None,
        },
        after={
            "webhook": {
                "state": one.state.value if one.state else None,
                "attempts": one.attempts,
                "error": one.why,
                "result": one.result.value,
                "events": list(one.events),
            },
            "payment": _seen(diff.after) if diff else None,
        },
        at=now,
    )


def _seen(payment: Payment) -> Json:
    return {"id": str(payment.payment_id), **values_of(payment)}


def _told(batch: SqlBatch, outcome: Outcome, diffs: dict[UUID, PaymentDiff]) -> ReplayedWebhook:
    """Tell what came of a webhook, and keep its payment's diff."""
    reading, put_off = outcome.reading, outcome.put_off
    payment = _payment_of(batch, reading)
    if payment is not None:
        before = batch.payments.before(payment.payment_id)
        known = diffs.get(payment.payment_id)
        diffs[payment.payment_id] = PaymentDiff(known.before if known else before, payment)
    events = tuple(
        event.kind.value for event in batch.payments.events(f"webhook:{reading.work.guid}")
    )
    if put_off is None:
        result = Result.APPLIED if events else Result.UNCHANGED
    else:
        result = Result.BUSY if outcome.is_busy else Result.PARKED
    notification = reading.notification
    success = "true" if notification.success else "false"
    return ReplayedWebhook(
        guid=reading.work.guid,
        result=result,
        why=put_off.error if put_off else None,
        state=put_off.state if put_off else InboxState.DONE,
        attempts=put_off.attempts if put_off else 0,
        event=f"{notification.event_code} {success} {notification.psp_reference}".rstrip(),
        events=events,
        payment_id=payment.payment_id if payment else None,
    )


def _left(put_off: PutOff, result: Result) -> ReplayedWebhook:
    return ReplayedWebhook(
        guid=put_off.guid,
        result=result,
        why=put_off.error,
        state=put_off.state,
        attempts=put_off.attempts,
    )


def _payment_of(batch: SqlBatch, reading: Reading) -> Payment | None:
    try:
        return batch.payments.find(reading.payment_name) if reading.meaning else None
    except PaymentBusy:
        return None
