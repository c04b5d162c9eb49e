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
from app.domain.flow import REST_STATES, FlowEvent, FlowState
from app.domain.identifiers import message_id, step_key
from app.domain.payment import Change, EventKind
from app.domain.saga import (
    Claim,
    Command,
    Direction,
    Received,
    Reply,
    Response,
    StepRecord,
    StepStatus,
)
from app.errors import GatewayError, IllegalTransition, StoreUnavailable
from app.sagas.decisions import Ask, Wait, after_call, decide, undos_needed
from app.sagas.definition import Definitions, Saga
from app.sagas.ports import Batch, StoredRecords
from app.services.ports import NewId

#: How long a saga that can't be moved, through a mistake of ours, is left alone.
FAILED_WAIT = timedelta(minutes=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call whose intent and command are on disk."""

    record: StepRecord
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The calls of one saga, to be made side by side, under one claim."""

    claim: Claim
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A turn whose calls have been made; the replies are in the order of the calls."""

    turn: Turn
    replies: tuple[Reply | GatewayError, ...]


@dataclass(slots=True, kw_only=True)
class Advance:
    """What one transaction came to.

    Attributes:
        turns: The calls to make next.
        unsettled: What could not be written now, since others have its payment locked.
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


@dataclass(slots=True, kw_only=True)
class _Moving:
    """A claimed saga inside a transaction."""

    saga: Saga
    claim: Claim
    change: Change
    records: StoredRecords


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
        self._services = services
        self._batch = batch
        self._clock = clock
        self._new_id = new_id
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._draw = draw or random.random

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
            except Exception as error:  # noqa: BLE001  # it belongs to one of the sagas
                if len(called) + len(claimed) <= 1:
                    self._leave_alone(batch, called, claimed, error, now)
                    batch.commit()
                    return Advance(turns=[], unsettled=[], claimed=len(claimed))
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
        for one in called:
            advance.add(self.advance([one], goes_on=goes_on))
        for _claim in range(claims):
            advance.add(self.advance(claims_max=1, payment_id=payment_id, as_of=as_of))
        return advance

    def _leave_alone(
        self,
        batch: Batch,
        called: Sequence[Called],
        claimed: Sequence[Claim],
        error: Exception,
        now: datetime,
    ) -> None:
        # What was claimed in vain is as it was before.
        unclaimed = [replace(claim, version=claim.version - 1) for claim in claimed]
        for claim in [one.turn.claim for one in called] + unclaimed:
            about = {"saga_id": str(claim.saga_id), "payment_id": str(claim.payment_id)}
            _log.error("saga not moved; it is left alone for a while", exc_info=error, extra=about)
            batch.sagas.put_off(claim, due=now + FAILED_WAIT)

    def _settle(
        self, batch: Batch, called: Sequence[Called], now: datetime, *, goes_on: bool
    ) -> Advance:
        advance = Advance(turns=[], unsettled=[])
        if not called:
            return advance
        payments = batch.payments.lock([one.turn.claim.payment_id for one in called])
        free = [one for one in called if one.turn.claim.payment_id in payments]
        advance.unsettled += [one for one in called if one not in free]
        claims = batch.sagas.renew([one.turn.claim for one in free], lease_until=now + self._lease)
        records = batch.sagas.records(list(claims))
        for one in free:
            payment = payments[one.turn.claim.payment_id]
            change = Change(payment=payment, at=now, cause=_cause(one.turn.calls[0].record))
            claim = claims.get(one.turn.claim.saga_id)
            if claim is None:
                # A webhook or another worker moved the saga: the answer is evidence, nothing more.
                saga = self._definitions.version(one.turn.claim.definition_version)
                for call, reply in zip(one.turn.calls, one.replies, strict=True):
                    self._keep_evidence(batch, saga, change, call, reply)
                batch.payments.save(change)
                continue
            moving = self._moving(claim, change, records)
            for call, reply in zip(one.turn.calls, one.replies, strict=True):
                after = self._keep_evidence(batch, moving.saga, change, call, reply)
                self._put(batch, moving, after)
            turn = self._go_on(batch, moving, looks_from=now, goes_on=goes_on)
            advance.turns += [turn] if turn else []
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
            moving = self._moving(claim, change, records)
            for answer in received.get(claim.saga_id, ()):
                self._apply_received(batch, moving, answer)
            turn = self._go_on(batch, moving, looks_from=looks_from)
            advance.turns += [turn] if turn else []

    def _moving(
        self, claim: Claim, change: Change, records: Mapping[UUID, StoredRecords]
    ) -> _Moving:
        saga = self._definitions.version(claim.definition_version)
        return _Moving(saga=saga, claim=claim, change=change, records=records[claim.saga_id])

    def _apply_received(self, batch: Batch, moving: _Moving, answer: Received) -> None:
        """Apply what a participant elsewhere answered, if the decision that it answers stands."""
        record = moving.records.get((answer.step, answer.direction))
        reply = Reply(success=answer.response.success, data=answer.response.data)
        if record is None or record.round != answer.round or record.status is not StepStatus.SENT:
            about = {"step": answer.step, "direction": answer.direction, "attempt": 1}
            _note_reply(moving.change, about, reply, "late")
            return
        at = moving.change.at
        after = after_call(moving.saga, record, reply, now=at, draw=self._draw)
        _note_reply(moving.change, _about(record), reply, after.status)
        self._learn(moving.saga, moving.change, record, reply)
        self._put(batch, moving, after)

    def _keep_evidence(
        self, batch: Batch, saga: Saga, change: Change, call: Call, reply: Reply | GatewayError
    ) -> StepRecord:
        """Keep what came back, and return what it makes of the step's record."""
        after = after_call(saga, call.record, reply, now=change.at, draw=self._draw)
        if isinstance(reply, GatewayError):
            data = _about(call.record) | {"error": reply.code, "detail": str(reply)}
            change.add(EventKind.STEP_FAILED, data)
            return after
        response = Response(
            message_id=self._new_id(),
            command_id=call.command.message_id,
            saga_id=call.command.saga_id,
            service_id=call.command.service_id,
            success=reply.success,
            data=reply.data,
            timestamp=change.at,
        )
        batch.transport.keep(response)
        _note_reply(change, _about(call.record), reply, after.status)
        self._learn(saga, change, call.record, reply)
        return after

    def _learn(self, saga: Saga, change: Change, intent: StepRecord, reply: Reply) -> None:
        if intent.direction is Direction.UNDO or not reply.success:
            return
        step = next(step for step in saga.steps if step.name == intent.step)
        fact = step.learns(change.payment, reply.data, change.at)
        if fact is not None:
            change.record_fact(fact, payment_psp_reference=fact.reference)

    def _go_on(
        self, batch: Batch, moving: _Moving, *, looks_from: datetime, goes_on: bool = True
    ) -> Turn | None:
        """Decide until calls are needed, a wait begins or the payment rests; write it down."""
        change, claim = moving.change, moving.claim
        while change.payment.state not in REST_STATES:
            decision = decide(moving.saga, change.payment, moving.records, now=looks_from)
            match decision:
                case Wait(due):
                    batch.payments.save(change)
                    batch.sagas.release(claim, change.payment, due=due)
                    return None
                case FlowEvent() as event:
                    self._move(batch, moving, event)
                    looks_from = change.at
                case asks if not goes_on:
                    batch.payments.save(change)
                    batch.sagas.release(claim, change.payment, due=change.at)
                    return None
                case asks:
                    calls = self._intend(batch, moving, asks)
                    looks_from = change.at
                    if calls:
                        batch.payments.save(change)
                        batch.sagas.hold(claim, change.payment)
                        return Turn(claim=claim, calls=tuple(calls))
        batch.payments.save(change)
        batch.sagas.follow(change.payment, now=change.at)
        return None

    def _intend(self, batch: Batch, moving: _Moving, asks: Sequence[Ask]) -> list[Call]:
        """Write intents and commands; return the calls that are for this worker to make."""
        claim, at = moving.claim, moving.change.at
        calls: list[Call] = []
        for ask in asks:
            is_first = ask.record.started_at == ask.record.asked_at
            is_ours = ask.request.service_id in self._services
            record = replace(
                ask.record,
                asked_at=at,
                started_at=at if is_first else ask.record.started_at,
                status=StepStatus.ASKED if is_ours else StepStatus.SENT,
            )
            key = step_key(claim.saga_id, record.step, record.direction, record.round)
            command = Command(
                message_id=message_id(key),
                saga_id=claim.saga_id,
                service_id=ask.request.service_id,
                operation=ask.request.operation,
                idempotency_key=key,
                merchant_account=moving.change.payment.merchant_account,
                data=ask.request.data,
                timestamp=at,
            )
            batch.transport.send(
                record, command, offered_until=None if is_ours else ask.answered_by
            )
            if record.direction is Direction.UNDO:
                batch.transport.withdraw(claim.saga_id)
            elif ask.has_undo and (record.step, Direction.UNDO) not in moving.records:
                self._put(batch, moving, _registered(record))
            self._put(batch, moving, record)
            if is_ours:
                calls.append(Call(record=record, command=command))
        return calls

    def _move(self, batch: Batch, moving: _Moving, event: FlowEvent) -> None:
        """Move by an event that the saga's definition chose: a missing row is a bug in it."""
        change = moving.change
        before = change.payment.state
        if not change.move(event):
            raise IllegalTransition(before, event)
        if change.payment.state is FlowState.MANUAL_REVIEW:
            undos = undos_needed(moving.saga, change.payment, moving.records)
            step = undos[0][0].name if event is FlowEvent.UNDO_FAILED and undos else None
            batch.reviews.open(change.payment, step=step, now=change.at)

    @staticmethod
    def _put(batch: Batch, moving: _Moving, record: StepRecord) -> None:
        moving.records[record.step, record.direction] = record
        batch.sagas.put_step(moving.claim.saga_id, record)


def _registered(intent: StepRecord) -> StepRecord:
    """The undo of a step that is about to be asked."""
    return replace(
        intent,
        direction=Direction.UNDO,
        status=StepStatus.REGISTERED,
        attempts=0,
        request=None,
        response={},
        due=None,
    )


def _cause(record: StepRecord) -> str:
    return f"saga:{record.step}"


def _about(record: StepRecord) -> dict[str, object]:
    return {
        "step": record.step,
        "direction": record.direction,
        "attempt": record.attempts,
    }


def _note_reply(change: Change, about: dict[str, object], reply: Reply, status: str) -> None:
    change.add(EventKind.STEP_ANSWERED, about | {"status": status, "answer": dict(reply.data)})
