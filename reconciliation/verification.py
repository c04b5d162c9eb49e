"""``countersign verify``: history, rebuilt and compared.

Every payment is folded from its events and compared with its row, and every hash is computed
again. A payment that was changed past the service, an event that was changed, removed or put in:
each shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, RowMapping, select

from app.domain.history import GENESIS, seal
from app.domain.payment import EventKind, PaymentEvent, rebuild
from app.errors import IllegalTransition
from app.persistence.payments import columns_of, event_of
from app.persistence.tables import payment_events, payments

#: Payments read at a time; memory does not grow with their number.
CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """A payment whose row and history do not agree."""

    payment_id: UUID
    what: str

    def as_json(self) -> dict[str, object]:
        """Return the discrepancy as plain JSON values."""
        return {"payment_id": str(self.payment_id), "what": self.what}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What ``verify`` found."""

    payments: int
    events: int
    discrepancies: list[Discrepancy]


def verify(connection: Connection) -> Verification:
    """Check every payment, in one snapshot: run it in a REPEATABLE READ transaction."""
    payment_count = event_count = 0
    discrepancies: list[Discrepancy] = []
    after: UUID | None = None
    while chunk := _chunk(connection, after):
        for row, history in chunk:
            payment_count += 1
            event_count += len(history)
            discrepancies += [
                Discrepancy(payment_id=row["payment_id"], what=what)
                for what in _check(row, history)
            ]
        after = chunk[-1][0]["payment_id"]
    return Verification(payments=payment_count, events=event_count, discrepancies=discrepancies)


_History = list[tuple[int, bytes, PaymentEvent]]


def _chunk(connection: Connection, after: UUID | None) -> list[tuple[RowMapping, _History]]:
    query = select(payments).order_by(payments.c.payment_id).limit(CHUNK)
    if after is not None:
        query = query.where(payments.c.payment_id > after)
    rows = connection.execute(query).mappings().all()
    histories: dict[UUID, _History] = {row["payment_id"]: [] for row in rows}
    of_chunk = (
        select(payment_events)
        .where(payment_events.c.payment_id.in_(histories))
        .order_by(payment_events.c.payment_id, payment_events.c.seq)
    )
    for event in connection.execute(of_chunk).mappings():
        histories[event["payment_id"]].append((event["seq"], bytes(event["hash"]), event_of(event)))
    return [(row, histories[row["payment_id"]]) for row in rows]


def _check(row: RowMapping, history: _History) -> Iterator[str]:
    payment_id, newest_hash = row["payment_id"], bytes(row["newest_hash"])
    previous = GENESIS
    for place, (seq, hash_, event) in enumerate(history, 1):
        if seq != place:
            yield f"event {place} is missing"
            return
        previous = seal(previous, payment_id, seq, event)
        if hash_ != previous:
            yield f"event {seq} is not what was written"
            return
    if previous != newest_hash:
        yield "the newest event is not the one that the payment names"
        return
    try:
        rebuilt = rebuild(payment_id, (event for _seq, _hash, event in history))
    except (IllegalTransition, ValueError, TypeError, KeyError, StopIteration) as error:
        yield f"its events do not make a payment: {type(error).__name__}"
        return
    is_ours = history[0][2].kind is EventKind.STARTED
    for name, value in columns_of(rebuilt, is_ours=is_ours).items():
        if row[name] != value:
            yield f"{name} does not follow from its events"
