"""From the inbox to the payments: as many webhooks as are due, in one transaction.

The webhooks leave the work list in the transaction that applies them, so that each is applied once
however often a worker dies. When one of a batch can't be applied, the batch is taken back and each
is tried alone: it is put off by itself, and its neighbours go on.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from uuid import UUID

from sqlalchemy import Connection

from app import failpoints
from app.clock import Clock
from app.domain.payment import Payment
from app.errors import CountersignError, StoreUnavailable, UnclearNotification
from app.persistence.batch import PaymentBusy, PaymentName, SqlBatch
from app.persistence.engine import is_contention
from app.persistence.tables import InboxState, Scheme
from app.services.ports import NewId
from app.services.record_fact import Statement, adopt_external, record_fact
from webhooks import inbox, meanings, notifications, platform
from webhooks.inbox import PutOff, Work
from webhooks.meanings import MEANINGS, About, Meaning
from webhooks.notifications import Notification

#: Webhooks in one transaction: enough to share its cost, and done in some hundredths of a second.
BATCH_MAX = 200
#: Tries of a webhook that fails for a reason that is not its payment's absence.
TRIES_MAX = 8
#: Waits between tries double from the first to the longest.
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
#: How soon an orphan is looked at again in its first minute. Whoever brings its payment wakes it;
#: the looks are for a payment that comes at the very moment of the last one.
ORPHAN_WAIT = timedelta(seconds=0.5)
ORPHAN_WAIT_MAX = timedelta(seconds=60)
#: And how soon after its grace, if no external payment can be made of it.
LATE_ORPHAN_WAIT = timedelta(hours=1)
#: How long a webhook steps back while another transaction holds its payment.
BUSY_WAIT = timedelta(seconds=0.2)
#: How often a code that this release does not know is looked at again: the next one may know it.
UNKNOWN_CODE_WAIT = timedelta(days=1)

_log = logging.getLogger(__name__)


class Parked(Exception):  # an outcome, not a failure
    """The webhook waits: for its payment, or for a person.

    Attributes:
        wait: How long until it is looked at again.
        awaits: The payment that it waits for, if it is an orphan.
    """

    def __init__(self, why: str, *, wait: timedelta, awaits: PaymentName | None = None) -> None:
        """Say why."""
        super().__init__(why)
        self.wait = wait
        self.awaits = awaits


@dataclass(frozen=True, slots=True)
class Reading:
    """A claimed webhook, read.

    Attributes:
        meaning: None if it is nothing about a payment: a test, or a code that we do not know.
    """

    work: Work
    notification: Notification
    meaning: Meaning | None

    @property
    def about(self) -> About:
        """Whose reference it carries."""
        return self.meaning.about if self.meaning else About.NOTHING

    @property
    def psp_reference(self) -> str | None:
        """The payment's PSP reference, if the webhook tells it."""
        return meanings.payment_reference(self.notification, self.about)

    @property
    def payment_name(self) -> PaymentName:
        """How it names its payment."""
        return PaymentName(
            merchant_account=self.notification.merchant_account,
            merchant_reference=meanings.own_reference(self.notification, self.about),
            psp_reference=self.psp_reference,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a webhook that did not fail.

    Attributes:
        put_off: Why and until when it stays on the work list; None if it is done.
        is_busy: It was not tried: another transaction has its payment.
    """

    reading: Reading
    put_off: PutOff | None = None
    is_busy: bool = False

    @property
    def is_orphan(self) -> bool:
        """True if it waits for its payment."""
        return self.put_off is not None and self.put_off.awaits is not None


class Drain:
    """Applies stored webhooks. Any number may run, in threads or on hosts."""

    def __init__(
        self,
        *,
        batch: Callable[[], SqlBatch],
        clock: Clock,
        new_id: NewId,
        decision_window_seconds: int,
        orphan_grace_seconds: int,
    ) -> None:
        """Wire the drain.

        Args:
            batch: Opens a transaction.
            clock: Decides what is due.
            new_id: Makes the ids of external payments.
            decision_window_seconds: See ``record_fact``.
            orphan_grace_seconds: How long a webhook waits for its payment before the payment counts
                as one that we did not start.
        """
        self._batch = batch
        self._clock = clock
        self._new_id = new_id
        self._decision_window_seconds = decision_window_seconds
        self._orphan_grace = timedelta(seconds=orphan_grace_seconds)

    def run_next(self) -> bool:
        """Apply the webhooks that have been due longest.

        Returns:
            False if none was due.
        """
        now = self._clock.now()
        return self._run(partial(_due, now=now), now)

    def run_these(self, guids: Sequence[UUID]) -> None:
        """Apply these webhooks, due or not, but those that are done or that a worker has."""
        self._run(partial(inbox.claim, guids=guids), self._clock.now())

    def _run(self, claim: Callable[[Connection], Sequence[Work]], now: datetime) -> bool:
        suspects: Sequence[Work] = ()
        with self._batch() as batch:
            works = claim(batch.connection)
            try:
                with batch.attempt():
                    self.apply(batch, works, now)
            except StoreUnavailable:
                raise  # not the webhooks' failure: they stay due, untried
            except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to a webhook
                if len(works) > 1:
                    suspects = works
                else:
                    # Still locked: what a redelivery says meanwhile can't be overwritten.
                    put_off = failed_try(works[0], error, now)
                    _log_failure(put_off, error)
                    inbox.put_off(batch.connection, [put_off])
            if not suspects:
                failpoints.hit("drain.before_commit")
                batch.commit()
        failpoints.hit("drain.after_commit")
        for suspect in suspects:
            self._run(partial(inbox.claim, guids=[suspect.guid]), now)
        return bool(works)

    def apply(self, batch: SqlBatch, works: Sequence[Work], now: datetime) -> list[Outcome]:
        """Apply claimed webhooks inside ``batch``, and write everything. The caller commits.

        Returns:
            What came of each, in the order of ``works``.
        """
        readings = [read(work) for work in works]
        batch.payments.load([one.payment_name for one in readings if one.meaning])
        first = [self._try(batch, one, now) for one in readings]
        # The payment of an orphan may have come, or got its name, with one of its neighbours.
        outcomes = [self._try(batch, one.reading, now) if one.is_orphan else one for one in first]
        inbox.put_off(batch.connection, [one.put_off for one in outcomes if one.put_off])
        done = [one.reading.work.guid for one in outcomes if one.put_off is None]
        inbox.finish(batch.connection, done)
        batch.write(now=now)
        return outcomes

    def _try(self, batch: SqlBatch, reading: Reading, now: datetime) -> Outcome:
        work = reading.work
        try:
            self._apply(batch, reading, now)
        except PaymentBusy:
            return Outcome(reading, _stepped_back(work, now), is_busy=True)
        except Parked as parked:
            due = now + parked.wait
            put_off = PutOff(
                work.guid, InboxState.PARKED, str(parked), due, work.attempts, parked.awaits
            )
            return Outcome(reading, put_off)
        return Outcome(reading)

    def _apply(self, batch: SqlBatch, reading: Reading, now: datetime) -> None:
        if reading.about is About.NOTHING:
            _require_known_code(reading)
            return
        payment = batch.payments.find(reading.payment_name)
        if payment is None:
            self._adopt(batch, reading, now)
            return
        record_fact(
            _statement(reading, payment),
            payment,
            uow=batch,
            now=now,
            decision_window_seconds=self._decision_window_seconds,
        )

    def _adopt(self, batch: SqlBatch, reading: Reading, now: datetime) -> None:
        """Park a webhook whose payment is not here; after the grace the payment is external."""
        age = now - reading.work.received_at
        if age < self._orphan_grace:
            raise Parked(
                "its payment is not here yet",
                wait=min(max(ORPHAN_WAIT, age / 60), ORPHAN_WAIT_MAX),
                awaits=reading.payment_name,
            )
        amount = reading.notification.amount
        reference = meanings.stub_reference(reading.notification, reading.about)
        if reference is None or amount is None:
            raise Parked(
                "its payment is not here, and it does not say enough to keep one",
                wait=LATE_ORPHAN_WAIT,
                awaits=reading.payment_name,
            )
        adopt_external(
            _statement(reading, None),
            merchant_account=reading.notification.merchant_account,
            merchant_reference=reading.notification.merchant_reference,
            amount=amount,
            uow=batch,
            now=now,
            new_id=self._new_id,
        )


def _due(connection: Connection, *, now: datetime) -> Sequence[Work]:
    """Claim what has been due longest. A webhook that failed before is tried alone."""
    works = inbox.claim_due(connection, now=now, limit=BATCH_MAX)
    return list(takewhile(lambda work: not _has_failed(work), works)) or works[:1]


def _has_failed(work: Work) -> bool:
    return work.state is InboxState.NEW and work.attempts > 0


def read(work: Work) -> Reading:
    """Read a stored webhook again.

    Raises:
        MalformedNotification: It can't be read.
    """
    if work.scheme is Scheme.HEADER:
        notification = platform.find(work.body, work.guid, work.merchant_account)
    else:
        notification = notifications.find(work.body, work.guid)
    meaning = None if notification.is_test else MEANINGS.get(notification.event_code)
    return Reading(work, notification, meaning)


def _require_known_code(reading: Reading) -> None:
    """Keep a code that nobody knows in sight; platform webhooks have hundreds, and none is ours."""
    is_foreign = reading.notification.is_test or reading.work.scheme is Scheme.HEADER
    if reading.meaning is None and not is_foreign:
        code = reading.notification.event_code
        raise Parked(f"unknown event code {code}", wait=UNKNOWN_CODE_WAIT)


def _statement(reading: Reading, payment: Payment | None) -> Statement:
    notification, meaning = reading.notification, reading.meaning
    if meaning is None:
        raise TypeError("a webhook without a meaning makes no statement")
    if payment is not None:
        _require_same_currency(notification, payment)
    try:
        fact = meanings.fact_of(
            notification,
            meaning,
            occurred_at=reading.work.event_date,
            first_told_at=reading.work.first_event_date,
        )
    except UnclearNotification as unclear:
        raise Parked(str(unclear), wait=UNKNOWN_CODE_WAIT) from None
    return Statement(
        fact=fact,
        title=notification.event_code,
        payment_psp_reference=reading.psp_reference,
        cause=f"webhook:{reading.work.guid}",
        is_redelivery=reading.work.is_again,
    )


def _require_same_currency(notification: Notification, payment: Payment) -> None:
    amount = notification.amount
    if amount and amount.amount_minor and amount.currency != payment.amount.currency:
        raise Parked(
            f"its amount is in {amount.currency}, the payment in {payment.amount.currency}",
            wait=UNKNOWN_CODE_WAIT,
        )


def failed_try(work: Work, error: Exception, now: datetime) -> PutOff:
    """Return what to keep of a try that failed, apart from the work that it rolled back.

    See architecture.md rule 9. A try that others were in the way of is none.
    """
    if is_contention(error):
        return _stepped_back(work, now)
    what = f"{type(error).__name__}: {error}" if isinstance(error, CountersignError) else ""
    is_last = work.attempts + 1 >= TRIES_MAX
    state = InboxState.DEAD if is_last else InboxState.NEW
    due = now + timedelta(seconds=_wait_seconds(work.attempts))
    return PutOff(work.guid, state, what or type(error).__name__, due, work.attempts + 1)


def _log_failure(put_off: PutOff, error: Exception) -> None:
    if not is_contention(error):
        about = {"guid": str(put_off.guid), "state": put_off.state}
        _log.error("webhook not applied", exc_info=error, extra=about)


def _stepped_back(work: Work, now: datetime) -> PutOff:
    """Let the others go first: somebody holds what this one needs."""
    return PutOff(work.guid, work.state, work.error, now + BUSY_WAIT, work.attempts)


def _wait_seconds(attempts: int) -> float:
    return min(FIRST_WAIT_SECONDS * 2.0 ** min(attempts, 16), LONGEST_WAIT_SECONDS)
