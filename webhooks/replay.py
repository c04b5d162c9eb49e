"""Replay: an operator applies stored webhooks again, or looks at what would come of it.

A preview is the replay itself in a transaction that is rolled back, so that it can't tell anything
else than what would happen. Applying a webhook again is harmless: facts are a set.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app import failpoints
from app.clock import Clock
from app.domain.payment import Payment
from app.persistence.batch import PaymentBusy, SqlBatch
from app.persistence.engine import is_contention, is_unavailable
from app.persistence.tables import InboxState
from app.queries.payments import Json
from webhooks import inbox
from webhooks.drain import Drain, Outcome, Reading, failed_try
from webhooks.inbox import PutOff, Work

#: Webhooks of one replay: one transaction, whose locks are held for some hundredths of a second.
REPLAY_MAX = 100


class Result(StrEnum):
    """What came of one webhook."""

    APPLIED = "applied"
    UNCHANGED = "nothing to apply"
    PARKED = "parked"
    FAILED = "failed"
    BUSY = "busy"  #: another transaction has its payment
    TAKEN = "being applied by a worker"


#: Nothing is left to do.
_SETTLED = frozenset({Result.APPLIED, Result.UNCHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedWebhook:
    """What came of one webhook.

    Attributes:
        why: It stays on the work list; None if it does not.
        state: Where it stands now; None if a worker decides that.
        attempts: Tries that failed, this one included.
        event: Its code, outcome and reference; None if it can't be read.
        events: The kinds of what it brought about, in order.
        payment_id: The payment that it is about; None if there is none, or it is not known here.
    """

    guid: UUID
    result: Result
    why: str | None = None
    state: InboxState | None = None
    attempts: int = 0
    event: str | None = None
    events: tuple[str, ...] = ()
    payment_id: UUID | None = None

    def as_json(self, replayed: "Replayed") -> Json:
        """Return what is shown."""
        return {
            "guid": str(self.guid),
            "event": self.event,
            "result": self.result.value,
            "why": self.why,
            "state": self.state.value if self.state else None,
            "attempts": self.attempts,
            "events": list(self.events),
            "payment_id": replayed.id_of(self.payment_id),
        }


@dataclass(frozen=True, slots=True)
class PaymentDiff:
    """A payment before and after.

    Attributes:
        before: None if the replay keeps a payment that was not here.
    """

    before: Payment | None
    after: Payment

    @property
    def values_before(self) -> Json:
        """What was to be seen of it; empty if it was not here."""
        return _values(self.before) if self.before else {}

    @property
    def values(self) -> Json:
        """What is to be seen of it, by name; amounts in minor units."""
        return _values(self.after)

    @property
    def changed(self) -> list[str]:
        """The names of the values that differ."""
        before = self.values_before
        return [
            name
            for name, value in self.values.items()
            if name not in before or before[name] != value
        ]

    def as_json(self, replayed: "Replayed") -> Json:
        """Return what is shown; amounts in minor units."""
        return {
            "payment_id": replayed.id_of(self.after.payment_id),
            "merchant_account": self.after.merchant_account,
            "merchant_reference": self.after.merchant_reference,
            "currency": self.after.amount.currency,
            "before": self.values_before or None,
            "after": self.values,
            "changed": self.changed,
        }


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What came of a replay, or would come of it.

    Attributes:
        is_preview: Nothing of it was kept.
        webhooks: In the order in which they were asked for.
        payments: Those that the webhooks are about, by id.
    """

    is_preview: bool
    webhooks: list[ReplayedWebhook] = field(default_factory=list)
    payments: dict[UUID, PaymentDiff] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """True if each was applied, or had nothing to apply."""
        return all(one.result in _SETTLED for one in self.webhooks)

    def as_json(self) -> Json:
        """Return what is shown."""
        return {
            "dry_run": self.is_preview,
            "is_settled": self.is_settled,
            "webhooks": [one.as_json(self) for one in self.webhooks],
            "payments": [one.as_json(self) for one in self.payments.values()],
        }

    def id_of(self, payment_id: UUID | None) -> str | None:
        """Return the id under which a payment is found; None if nothing but the preview made it."""
        if payment_id is None or (self.is_preview and self.payments[payment_id].before is None):
            return None
        return str(payment_id)


class Replay:
    """Applies stored webhooks again."""

    def __init__(self, *, batch: Callable[[], SqlBatch], drain: Drain, clock: Clock) -> None:
        """Apply through ``drain``, in a transaction of ``batch``."""
        self._batch = batch
        self._drain = drain
        self._clock = clock

    def run(self, guids: Collection[UUID], *, is_preview: bool) -> Replayed:
        """Apply webhooks now: done, parked and dead ones alike, all in one transaction.

        One that fails takes nothing else along: it is tried alone, its try counts, and its error is
        kept. One that a worker has in its hands is left to it.

        Args:
            guids: At most ``REPLAY_MAX``.
            is_preview: Roll everything back at the end.

        Raises:
            NotificationNotFound: Some are not stored; the message names them. Nothing is applied.
            StoreUnavailable: Postgres can't do it now. Nothing is applied.
        """
        now = self._clock.now()
        replayed = Replayed(is_preview=is_preview)
        with self._batch() as batch:
            works = inbox.reopen(batch.connection, guids, now=now)
            found = self._apply(batch, works, now, replayed.payments)
            failpoints.hit("replay.before_end")
            if not is_preview:
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


def _values(payment: Payment) -> Json:
    funds = payment.funds
    return {
        "state": payment.state.value,
        "reason": payment.reason,
        "psp_reference": payment.psp_reference,
        "version": payment.version,
        "funds_status": funds.status.value,
        "authorised": funds.authorised,
        "captured": funds.captured,
        "refunded": funds.refunded,
        "charged_back": funds.charged_back,
        "cancelled": funds.cancelled,
    }
