"""From the inbox to the payments: one webhook, one transaction, one payment at a time.

The webhook leaves the work list in the transaction that applies it, so that each is applied once
however often a worker dies. One that can't be applied is put off alone; its neighbours go on.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from app import failpoints
from app.clock import Clock
from app.domain.money import Money
from app.domain.payment import Payment
from app.errors import CountersignError, UnclearNotification
from app.persistence.engine import is_contention, is_unavailable
from app.persistence.tables import InboxState
from app.persistence.unit_of_work import SqlUnitOfWork
from app.services.ports import NewId
from app.services.record_fact import Statement, adopt_external, record_fact
from webhooks import inbox, meanings
from webhooks.inbox import StoredWebhook, Work
from webhooks.meanings import MEANINGS, About, Meaning
from webhooks.notifications import Notification, find

#: Tries of a webhook that fails for a reason that is not its payment's absence.
TRIES_MAX = 8
#: Waits between tries double from the first to the longest.
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
#: How soon a webhook without its payment is looked at again in its first minute.
ORPHAN_WAIT = timedelta(seconds=1)
#: How long a webhook steps back while another transaction holds its payment.
BUSY_WAIT = timedelta(seconds=1)
#: How often a code that this release does not know is looked at again: the next one may know it.
UNKNOWN_CODE_WAIT = timedelta(days=1)

_log = logging.getLogger(__name__)


class Parked(Exception):  # an outcome, not a failure
    """The webhook waits: for its payment, or for a person.

    Attributes:
        wait: How long until it is looked at again; None to double the wait at each look.
    """

    def __init__(self, why: str, *, wait: timedelta | None = None) -> None:
        """Say why."""
        super().__init__(why)
        self.wait = wait


class Drain:
    """Applies stored webhooks. Any number may run, in threads or on hosts."""

    def __init__(
        self,
        *,
        unit_of_work: Callable[[], SqlUnitOfWork],
        clock: Clock,
        new_id: NewId,
        decision_window_seconds: int,
        orphan_grace_seconds: int,
    ) -> None:
        """Wire the drain.

        Args:
            unit_of_work: Opens a transaction.
            clock: Decides what is due.
            new_id: Makes the ids of external payments.
            decision_window_seconds: See ``record_fact``.
            orphan_grace_seconds: How long a webhook waits for its payment before the payment counts
                as one that we did not start.
        """
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._new_id = new_id
        self._decision_window_seconds = decision_window_seconds
        self._orphan_grace = timedelta(seconds=orphan_grace_seconds)

    def run_next(self) -> bool:
        """Apply the webhook that has been due longest.

        Returns:
            False if none was due.
        """
        now = self._clock.now()
        with self._unit_of_work() as uow:
            work = inbox.claim_next(uow.connection, now=now)
            if work is None:
                return False
            try:
                self._apply(uow, work, now)
                inbox.finish(uow.connection, work.guid)
                failpoints.hit("drain.before_commit")
                uow.commit()
            except Parked as parked:
                uow.connection.rollback()
                wait = parked.wait or _wait(work)
                self._put_off(uow, work, InboxState.PARKED, str(parked), now + wait)
            except Exception as error:
                if is_contention(error):
                    uow.connection.rollback()
                    self._put_off_busy(uow, work, now)
                    return True
                if is_unavailable(error):
                    raise  # the store's failure, not the webhook's: it stays due, untried
                uow.connection.rollback()
                self._put_off_failed(uow, work, error, now)
        failpoints.hit("drain.after_commit")
        return True

    def _apply(self, uow: SqlUnitOfWork, work: Work, now: datetime) -> None:
        stored = inbox.load(uow.connection, work.guid)
        notification = find(stored.body, work.guid)
        if notification.is_test:
            return
        meaning = MEANINGS.get(notification.event_code)
        if meaning is None:
            raise Parked(f"unknown event code {notification.event_code}", wait=UNKNOWN_CODE_WAIT)
        if meaning.about is About.NOTHING:
            return
        payment = uow.payments.find_for_update(
            notification.merchant_account,
            psp_reference=meanings.payment_reference(notification, meaning.about),
            merchant_reference=meanings.own_reference(notification, meaning.about),
        )
        if payment is None:
            self._adopt(uow, work, stored, notification, meaning, now=now)
            return
        statement = _statement(work, stored, notification, meaning, payment)
        record_fact(
            statement,
            payment,
            uow=uow,
            now=now,
            decision_window_seconds=self._decision_window_seconds,
        )

    def _adopt(
        self,
        uow: SqlUnitOfWork,
        work: Work,
        stored: StoredWebhook,
        notification: Notification,
        meaning: Meaning,
        *,
        now: datetime,
    ) -> None:
        """Park a webhook whose payment is not here; after the grace the payment is external."""
        age = now - stored.received_at
        if age < self._orphan_grace:
            # A payment that appears is joined within a second, and an old orphan costs few looks.
            raise Parked("its payment is not here yet", wait=max(ORPHAN_WAIT, age / 60))
        reference = meanings.payment_reference(notification, meaning.about)
        if reference is None or notification.amount is None:
            raise Parked("it names no payment that could be kept", wait=UNKNOWN_CODE_WAIT)
        adopt_external(
            _statement(work, stored, notification, meaning, None),
            merchant_account=notification.merchant_account,
            merchant_reference=notification.merchant_reference,
            amount=notification.amount,
            uow=uow,
            now=now,
            new_id=self._new_id,
        )

    def _put_off_failed(
        self, uow: SqlUnitOfWork, work: Work, error: Exception, now: datetime
    ) -> None:
        """Keep a failure apart from the work that it rolled back (architecture.md rule 9)."""
        what = f"{type(error).__name__}: {error}" if isinstance(error, CountersignError) else ""
        what = what or type(error).__name__
        is_last = work.attempts + 1 >= TRIES_MAX
        state = InboxState.DEAD if is_last else InboxState.NEW
        _log.exception("webhook not applied", extra={"guid": str(work.guid), "state": state})
        self._put_off(uow, work, state, what, now + _wait(work))

    @staticmethod
    def _put_off_busy(uow: SqlUnitOfWork, work: Work, now: datetime) -> None:
        """Let the others go first while somebody holds the payment; that is no try of its own."""
        inbox.postpone(uow.connection, work.guid, due=now + BUSY_WAIT)
        uow.commit()

    @staticmethod
    def _put_off(
        uow: SqlUnitOfWork, work: Work, state: InboxState, error: str, due: datetime
    ) -> None:
        inbox.put_off(uow.connection, work, state=state, error=error, due=due)
        uow.commit()


def _statement(
    work: Work,
    stored: StoredWebhook,
    notification: Notification,
    meaning: Meaning,
    payment: Payment | None,
) -> Statement:
    if payment is not None and notification.amount is not None:
        _require_same_currency(notification.amount, payment)
    try:
        fact = meanings.fact_of(
            notification,
            meaning,
            payment.funds if payment else None,
            occurred_at=stored.event_date,
        )
    except UnclearNotification as unclear:
        raise Parked(str(unclear), wait=UNKNOWN_CODE_WAIT) from None
    return Statement(
        fact=fact,
        title=notification.event_code,
        payment_psp_reference=meanings.payment_reference(notification, meaning.about),
        cause=f"webhook:{work.guid}",
    )


def _require_same_currency(amount: Money, payment: Payment) -> None:
    if amount.amount_minor and amount.currency != payment.amount.currency:
        raise Parked(
            f"its amount is in {amount.currency}, the payment in {payment.amount.currency}",
            wait=UNKNOWN_CODE_WAIT,
        )


def _wait(work: Work) -> timedelta:
    seconds = min(FIRST_WAIT_SECONDS * 2.0 ** min(work.attempts, 16), LONGEST_WAIT_SECONDS)
    return timedelta(seconds=seconds)
