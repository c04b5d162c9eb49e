"""Many payments changed in one transaction: loaded together, locked in order, written together.

The use cases see the ports of any transaction. What they write is kept in memory until the batch
commits; then each table is written by one statement.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from time import sleep
from uuid import UUID

from sqlalchemy import Connection, RowMapping, select, text
from sqlalchemy.exc import SQLAlchemyError

from app.domain.history import GENESIS
from app.domain.money import Money
from app.domain.payment import Change, Payment, PaymentEvent
from app.errors import StoreUnavailable
from app.persistence.batched_sagas import BatchedSagas
from app.persistence.breaks import SqlBreaks
from app.persistence.engine import is_contention, is_unavailable
from app.persistence.orphans import wake_orphans
from app.persistence.payments import (
    History,
    SqlPayments,
    insert_changes,
    payment_of,
    update_changes,
)
from app.persistence.recordset import as_rows
from app.persistence.tables import payments
from app.persistence.unit_of_work import SqlUnitOfWork
from app.services.ports import NewId

#: A payment that somebody else has locked is tried again so often, so soon: a lock is held for a
#: moment, and a batch that waited in line for one would hold up all its other payments.
LOCK_TRIES = 4
LOCK_PAUSE_SECONDS = 0.005


class PaymentBusy(Exception):  # an outcome, not a failure
    """Another transaction has the payment locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentName:
    """How a webhook names its payment: by our reference, by the PSP's, or by both."""

    merchant_account: str
    merchant_reference: str | None
    psp_reference: str | None

    def as_row(self) -> Mapping[str, str | None]:
        """Return the name as plain values."""
        return {
            "merchant_account": self.merchant_account,
            "merchant_reference": self.merchant_reference,
            "psp_reference": self.psp_reference,
        }


@dataclass(slots=True)
class _Held:
    """A payment that this batch may change, and what has happened to it so far."""

    payment: Payment
    newest_hash: bytes
    before: Payment | None
    events: list[PaymentEvent] = field(default_factory=list)

    def history(self) -> History:
        """Seal what happened."""
        return History(self.newest_hash, self.payment, self.events)

    def has_new_name(self) -> bool:
        """Tell whether webhooks may await the payment under a name that it did not have before."""
        return self.before is None or self.before.psp_references != self.payment.psp_references


class BatchedPayments(SqlPayments):
    """The payments of a batch, found by the names that webhooks give them."""

    def __init__(self, connection: Connection) -> None:
        """Hold none yet."""
        super().__init__(connection)
        self._held: dict[UUID, _Held] = {}
        self._busy: set[UUID] = set()
        self._ours: dict[tuple[str, str], UUID] = {}
        self._psp: dict[tuple[str, str], UUID] = {}

    def load(self, names: Collection[PaymentName]) -> None:
        """Load and lock every payment that is named so, in the order of their ids, waiting never.

        A payment that another transaction keeps locked is known, and busy.
        """
        rows = as_rows([name.as_row() for name in names])
        ids = set(self._connection.execute(_FIND, {"rows": rows}).scalars())
        found = self._lock(ids)
        self._busy = ids - {row["payment_id"] for row in found}
        if self._busy:
            query = select(payments).where(payments.c.payment_id.in_(self._busy))
            found += self._connection.execute(query).mappings().all()
        for row in sorted(found, key=itemgetter("created_at"), reverse=True):
            self.take_over(row)

    def lock(self, payment_ids: Collection[UUID]) -> dict[UUID, Payment]:
        """Load and lock payments, in the order of their ids, waiting never.

        Returns:
            Those that no other transaction keeps locked.
        """
        return {row["payment_id"]: self.take_over(row) for row in self._lock(set(payment_ids))}

    def take_over(self, row: RowMapping) -> Payment:
        """Return the payment of a row, which this transaction may change if it has locked it."""
        held = self._held.get(row["payment_id"])
        if held is not None:
            return held.payment  # changed in this transaction already
        payment = payment_of(row)
        if row["is_ours"]:
            self._ours[row["merchant_account"], row["merchant_reference"]] = row["payment_id"]
        self._hold(_Held(payment, newest_hash=row["newest_hash"], before=payment))
        return payment

    def find(self, name: PaymentName) -> Payment | None:
        """Return the payment with this name, as it stands in this batch.

        By our reference, else by the PSP's: that may already belong to an external payment, made of
        a modification that overtook its authorisation.

        Raises:
            PaymentBusy: It is locked elsewhere.
        """
        account = name.merchant_account
        found = self._ours.get((account, name.merchant_reference or ""))
        found = found or self._psp.get((account, name.psp_reference or ""))
        if found is None:
            return None
        if found in self._busy:
            raise PaymentBusy
        return self._held[found].payment

    def before(self, payment_id: UUID) -> Payment | None:
        """Return a payment as this batch found it; None if it is new."""
        return self._held[payment_id].before

    def events(self, cause: str) -> list[PaymentEvent]:
        """Return what ``cause`` brought about in this batch, in order."""
        return [
            event for held in self._held.values() for event in held.events if event.cause == cause
        ]

    def add(self, change: Change) -> None:
        """Keep a new payment, with the events that began it, until the batch is written."""
        held = _Held(change.payment, before=None, newest_hash=GENESIS)
        held.events += change.events
        self._hold(held)

    def save(self, change: Change) -> None:
        """Keep the payment and the events of ``change`` until the batch is written."""
        held = self._held[change.payment.payment_id]
        held.payment = change.payment
        held.events += change.events
        change.events.clear()
        self._hold(held)

    def write(self, *, now: datetime) -> None:
        """Write what was kept, and wake what awaits a payment that has got a name by it.

        Raises:
            ExternalPaymentExists: See ``SqlPayments.add``.
        """
        changed = [held for held in self._held.values() if held.events]
        new = [held for held in changed if held.before is None]
        old = [held for held in changed if held.before is not None]
        if new:
            insert_changes(self._connection, [held.history() for held in new])
        if old:
            update_changes(self._connection, [held.history() for held in old])
        named = [held.payment for held in changed if held.has_new_name()]
        wake_orphans(self._connection, named, now=now)

    def _lock(self, ids: set[UUID]) -> list[RowMapping]:
        found: list[RowMapping] = []
        left = set(ids)
        for tries_left in reversed(range(LOCK_TRIES)):
            query = select(payments).where(payments.c.payment_id.in_(left))
            query = query.order_by(payments.c.payment_id).with_for_update(skip_locked=True)
            rows = self._connection.execute(query).mappings().all() if left else []
            found += rows
            left -= {row["payment_id"] for row in rows}
            if left and tries_left:
                sleep(LOCK_PAUSE_SECONDS)
        return found

    def _hold(self, held: _Held) -> None:
        payment = held.payment
        self._held[payment.payment_id] = held
        for reference in payment.psp_references:
            self._psp[payment.merchant_account, reference] = payment.payment_id


class BatchedBreaks(SqlBreaks):
    """The breaks of a batch: opened last, since their payments may be new."""

    def __init__(self, connection: Connection, *, new_id: NewId) -> None:
        """Open none yet."""
        super().__init__(connection, new_id=new_id)
        self._found: list[tuple[str, Payment, Money]] = []

    def open(self, kind: str, payment: Payment, amount: Money, *, now: datetime) -> None:  # noqa: ARG002
        """Remember to open a break."""
        self._found.append((kind, payment, amount))

    def write(self, *, now: datetime) -> None:
        """Open the breaks."""
        for kind, payment, amount in self._found:
            super().open(kind, payment, amount, now=now)


class SqlBatch(SqlUnitOfWork):
    """A unit of work over many payments: begin, ``payments.load``, use cases, ``commit``."""

    _payments_type = BatchedPayments
    _sagas_type = BatchedSagas
    _breaks_type = BatchedBreaks

    payments: BatchedPayments
    sagas: BatchedSagas
    breaks: BatchedBreaks

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Begin anew; if the block raises, take back what it wrote, and only that.

        Locks that were taken before the block stay.

        Raises:
            StoreUnavailable: The store's failure, not that of what was tried.
        """
        self._open_repositories()
        try:
            with self.connection.begin_nested():
                yield
        except SQLAlchemyError as error:
            if is_unavailable(error) and not is_contention(error):
                raise StoreUnavailable from error
            raise

    def is_contention(self, error: Exception) -> bool:
        """Tell whether ``error`` is that other transactions were in the way of this one."""
        return is_contention(error)

    def write(self, *, now: datetime) -> None:
        """Write everything, in the one order of locks: payments, then sagas, then the rest."""
        self.payments.write(now=now)
        self.sagas.write(now=now)
        self.transport.write()
        self.breaks.write(now=now)


#: A payment that the PSP authorised twice has a reference that it does not carry: the webhook of
#: that authorisation tells which payment it is.
_FIND = text(
    """
    WITH given AS (
        SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS given (
            merchant_account text, merchant_reference text, psp_reference text)
    )
    SELECT payment_id FROM given JOIN payments USING (merchant_account, merchant_reference)
     WHERE is_ours
    UNION
    SELECT payment_id FROM given JOIN payments USING (merchant_account, psp_reference)
    UNION
    SELECT payment_id
      FROM given JOIN webhook_inbox stored USING (merchant_account, psp_reference)
      JOIN payments ON payments.merchant_account = stored.merchant_account
       AND payments.merchant_reference = stored.merchant_reference AND is_ours
     WHERE stored.event_code = 'AUTHORISATION'
    """
)
