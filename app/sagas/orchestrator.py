"""Claims sagas, decides, records: many sagas in one transaction, and never a call inside of it.

A turn of a saga is: plan (write the intents and their commands, commit), call, settle (write the
responses and the next intents, commit). A crash anywhere leaves either an intent without a
response, which the next worker repeats under the same key when the lease is over, or a response
with its next intent.
"""

import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.clock import Clock
from app.domain.payment import Change
from app.domain.saga import Claim, StepStatus
from app.errors import StoreUnavailable
from app.sagas.definition import Definitions
from app.sagas.moving import Called, Means, Moving, Turn
from app.sagas.ports import Batch, StoredRecords
from app.services.ports import NewId

#: How long a saga that can't be moved, through a mistake of ours, is left alone.
FAILED_WAIT = timedelta(minutes=1)

#: How long one that other transactions were in the way of is.
BUSY_WAIT = timedelta(seconds=1)

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Advance:
    """What one transaction came to.

    Attributes:
        turns: The calls to make next.
        unsettled: What could not be written now, since other transactions were in the way.
        claimed: How many sagas were found due.
    """

    turns: list[Turn]
    unsettled: list[Called]
    claimed: int = 0

    def add(self, other: "Advance") -> None:
        """Take in what another transaction came to."""
        self.turns += other.turns
        self.unsettled += other.unsettled
        self.claimed += other.claimed


class Orchestrator:
    """Decides what sagas do next. Thread-safe; any number may work, on any hosts."""

    def __init__(
        self,
        definitions: Definitions,
        *,
        services: Collection[str],
        batch: Callable[[], Batch],
        clock: Clock,
        new_id: NewId,
        owner: str,
        lease_seconds: int,
        draw: Callable[[], float] | None = None,
    ) -> None:
        """Wire the orchestrator.

        Args:
            definitions: Instances of other versions are left to workers that know them.
            services: Whom the caller can ask itself; commands to all others are offered to
                participants elsewhere.
            batch: Opens a transaction.
            clock: Decides what is due.
            new_id: Makes the ids of responses.
            owner: Names this worker in the claims.
            lease_seconds: Longer than any single call may take.
            draw: Draws from 0 to 1, for the jitter; evenly unless a test says otherwise.
        """
        self._definitions = definitions
        self._batch = batch
        self._clock = clock
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._means = Means(services=services, new_id=new_id, draw=draw or random.random)

    def advance(
        self,
        called: Sequence[Called] = (),
        *,
        claims_max: int = 0,
        payment_id: UUID | None = None,
        as_of: datetime | None = None,
        goes_on: bool = True,
    ) -> Advance:
        """Settle calls that came back, claim what is due, and write down what comes next.

        All in one transaction. If one saga can't be moved, each is tried alone: it is left alone
        for a while, and no other waits for it.

        Args:
            called: What came back.
            claims_max: How many due sagas to claim at the most.
            payment_id: Claim only this payment's saga.
            as_of: What counts as due, and the time of the first decision on what is claimed; now if
                None. Whatever is written carries the time of now.
            goes_on: False to begin no further calls: sagas are released, due at once.

        Raises:
            StoreUnavailable: Nothing was written; what came back may be settled later.
        """
        now = self._clock.now()
        claimed: list[Claim] = []
        with self._batch() as batch:
            try:
                with batch.attempt():
                    advance = self._settle(batch, called, now, goes_on=goes_on)
                    if claims_max:
                        found = batch.sagas.claim_due(
                            self._definitions.versions,
                            limit=claims_max,
                            as_of=as_of or now,
                            now=now,
                            lease_until=now + self._lease,
                            owner=self._owner,
                            payment_id=payment_id,
                        )
                        claimed = [claim for claim, _row in found]
                        self._start(batch, found, advance, looks_from=as_of or now, now=now)
                    batch.write(now=now)
            except StoreUnavailable:
                raise
            except Exception as error:
                if not called and not claimed:
                    raise
                # It belongs to one of the sagas; to the only one, unless the claim itself failed.
                is_alone = len(called) + len(claimed) == 1 and not (called and claims_max)
                if is_alone:
                    unsettled = self._leave_alone(batch, called, claimed, error, now)
                    batch.commit()
                    return Advance(turns=[], unsettled=unsettled, claimed=len(claimed))
            else:
                batch.commit()
                return advance
        return self._each_alone(called, len(claimed), payment_id, as_of, goes_on=goes_on)

    def _each_alone(
        self,
        called: Sequence[Called],
        claims: int,
        payment_id: UUID | None,
        as_of: datetime | None,
        *,
        goes_on: bool,
    ) -> Advance:
        advance = Advance(turns=[], unsettled=[])
        left = list(called)
        try:
            while left:
                advance.add(self.advance([left[0]], goes_on=goes_on))
                left.pop(0)
            for _claim in range(claims):
                advance.add(self.advance(claims_max=1, payment_id=payment_id, as_of=as_of))
        except StoreUnavailable:
            # What is written stays written, and its calls are to be made.
            advance.unsettled += left
        return advance

    def _leave_alone(
        self,
        batch: Batch,
        called: Sequence[Called],
        claimed: Sequence[Claim],
        error: Exception,
        now: datetime,
    ) -> list[Called]:
        """Give up claims for a while; return what came back and may yet be settled."""
        # What was claimed in vain is as it was before.
        unclaimed = [replace(claim, version=claim.version - 1) for claim in claimed]
        if batch.is_contention(error):
            for claim in unclaimed:
                batch.sagas.put_off(claim, due=now + BUSY_WAIT)
            return list(called)
        for claim in [one.turn.claim for one in called] + unclaimed:
            about = {"saga_id": str(claim.saga_id), "payment_id": str(claim.payment_id)}
            _log.error("saga not moved; it is left alone for a while", exc_info=error, extra=about)
            batch.sagas.put_off(claim, due=now + FAILED_WAIT)
        return []

    def _settle(
        self, batch: Batch, called: Sequence[Called], now: datetime, *, goes_on: bool
    ) -> Advance:
        advance = Advance(turns=[], unsettled=[])
        if not called:
            return advance
        payments = dict(batch.payments.lock([one.turn.claim.payment_id for one in called]))
        free = [one for one in called if one.turn.claim.payment_id in payments]
        advance.unsettled += [one for one in called if one not in free]
        claims = batch.sagas.renew([one.turn.claim for one in free], lease_until=now + self._lease)
        records = batch.sagas.records([one.turn.claim.saga_id for one in free])
        # Whoever is asked beside them, elsewhere, may have answered while the calls were made.
        awaiting = [saga_id for saga_id in _awaiting(records) if saga_id in claims]
        received = batch.transport.receive(awaiting, now=now)
        for one in free:
            claim = _renewed(claims, one.turn.claim)
            change = Change(
                payment=payments[one.turn.claim.payment_id],
                at=now,
                cause=f"saga:{one.turn.calls[0].record.step}",
            )
            moving = self._moving(batch, claim or one.turn.claim, change, records)
            calls = list(zip(one.turn.calls, one.replies, strict=True))
            if claim is None:
                moving.come_late(one.turn.claim, calls)
            else:
                for call, reply in calls:
                    moving.apply(claim, call, reply)
                for answer in received.get(claim.saga_id, ()):
                    moving.apply_received(claim, answer)
                turn = moving.go_on(claim, looks_from=now, begins=goes_on)
                advance.turns += [turn] if turn else []
            # It may have been claimed twice, by a process that stood still past its own lease.
            payments[change.payment.payment_id] = change.payment
        return advance

    def _start(
        self,
        batch: Batch,
        found: Sequence[tuple[Claim, Any]],
        advance: Advance,
        *,
        looks_from: datetime,
        now: datetime,
    ) -> None:
        advance.claimed = len(found)
        saga_ids = [claim.saga_id for claim, _row in found]
        records = batch.sagas.records(saga_ids)
        received = batch.transport.receive(saga_ids, now=now)
        for claim, row in found:
            payment = batch.payments.take_over(row)
            change = Change(payment=payment, at=now, cause=f"saga:{payment.state}")
            moving = self._moving(batch, claim, change, records)
            for answer in received.get(claim.saga_id, ()):
                moving.apply_received(claim, answer)
            turn = moving.go_on(claim, looks_from=looks_from)
            advance.turns += [turn] if turn else []

    def _moving(
        self, batch: Batch, claim: Claim, change: Change, records: Mapping[UUID, StoredRecords]
    ) -> Moving:
        return Moving(
            saga=self._definitions.version(claim.definition_version),
            change=change,
            records=records.get(claim.saga_id, {}),
            batch=batch,
            means=self._means,
        )


def _renewed(claims: Mapping[UUID, Claim], claim: Claim) -> Claim | None:
    """Return what became of a claim; None if it is not the one that was renewed."""
    renewed = claims.get(claim.saga_id)
    return renewed if renewed and renewed.version == claim.version + 1 else None


def _awaiting(records: Mapping[UUID, StoredRecords]) -> list[UUID]:
    """Return the sagas that await an answer from elsewhere."""
    return [
        saga_id
        for saga_id, steps in records.items()
        if any(record.status is StepStatus.SENT for record in steps.values())
    ]
