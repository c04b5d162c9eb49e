"""One claimed saga inside a transaction: what came back is kept, what comes next is written."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from app.domain.anomalies import LATE_SUCCESS
from app.domain.flow import REST_STATES, FlowEvent, FlowState
from app.domain.identifiers import message_id, step_key
from app.domain.money import Money
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
from app.errors import GatewayError, IllegalTransition
from app.sagas.asking import Ask, Wait, after_call
from app.sagas.compensation import anew, failed_undo
from app.sagas.decisions import decide
from app.sagas.definition import Saga, Step
from app.sagas.ports import Batch, StoredRecords
from app.services.ports import NewId

#: Where what was done is undone, or about to be.
_GIVEN_UP = frozenset({FlowState.COMPENSATING, FlowState.COMPENSATED, FlowState.DECLINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call whose intent and command are on disk.

    Attributes:
        is_after_put_off: True if the try before it never left.
    """

    record: StepRecord
    command: Command
    is_after_put_off: bool = False


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every saga is moved with.

    Attributes:
        services: Whom the caller can ask itself; commands to all others are offered to participants
            elsewhere.
        new_id: Makes the ids of responses.
        draw: Draws from 0 to 1, for the jitter.
    """

    services: Collection[str]
    new_id: NewId
    draw: Callable[[], float]


@dataclass(slots=True, kw_only=True)
class Moving:
    """A saga whose payment is locked; what happens to it is kept in ``batch`` until it is written.

    Attributes:
        saga: The definition that it began under.
        change: The payment, and what happens to it.
        records: Its steps, as they stand.
    """

    saga: Saga
    change: Change
    records: StoredRecords
    batch: Batch
    means: Means

    def keep(self, call: Call, reply: Reply | GatewayError) -> StepRecord:
        """Keep what came back as evidence, and return what it makes of the step's record."""
        at = self.change.at
        after = after_call(self.saga, call.record, reply, now=at, draw=self.means.draw)
        if isinstance(reply, GatewayError):
            if after.status is StepStatus.PUT_OFF and call.is_after_put_off:
                return after  # an outage is one line on the timeline, however long it is
            data = _about(call.record) | {"error": reply.code, "detail": str(reply)}
            self.change.add(EventKind.STEP_FAILED, data)
            return after
        response = Response(
            message_id=self.means.new_id(),
            command_id=call.command.message_id,
            saga_id=call.command.saga_id,
            service_id=call.command.service_id,
            success=reply.success,
            data=reply.data,
            timestamp=at,
        )
        self.batch.transport.keep(response)
        self._note(_about(call.record), reply, after.status)
        self._learn(call.record, reply)
        return after

    def apply(self, claim: Claim, call: Call, reply: Reply | GatewayError) -> None:
        """Keep what came back, and let the step's record follow."""
        self._put(claim, self.keep(call, reply))

    def come_late(self, claim: Claim, calls: Sequence[tuple[Call, Reply | GatewayError]]) -> None:
        """Keep what came back after somebody else had moved the saga, and see to it.

        What it says of its own attempt is true, and is written. A "yes" that comes when everything
        is undone, or is about to be, may leave something behind: its undo is asked once more.

        Args:
            claim: What was ours.
            calls: What was called, and what came back.
        """
        before = self.change.payment.state
        is_heard = False
        for call, reply in calls:
            after = self.keep(call, reply)
            intent = call.record
            if self.records.get((intent.step, intent.direction)) == intent:
                self._put(claim, after)
                is_heard = True
            if isinstance(reply, Reply) and self._leaves_something(intent, reply):
                self._undo_again(claim, intent.step)
                is_heard = True
        payment, at = self.change.payment, self.change.at
        self.batch.payments.save(self.change)
        if payment.state is not before:
            self.batch.sagas.follow(payment, now=at)
        elif is_heard:
            self.batch.sagas.wake(payment.payment_id, now=at)

    def apply_received(self, claim: Claim, answer: Received) -> None:
        """Apply what a participant elsewhere answered, if the decision that it answers stands."""
        record = self.records.get((answer.step, answer.direction))
        reply = Reply(success=answer.response.success, data=answer.response.data)
        if record is None or record.round != answer.round or record.status is not StepStatus.SENT:
            about = {"step": answer.step, "direction": answer.direction, "attempt": 1}
            self._note(about, reply, "late")
            return
        after = after_call(self.saga, record, reply, now=self.change.at, draw=self.means.draw)
        self._note(_about(record), reply, after.status)
        self._learn(record, reply)
        self._put(claim, after)

    def go_on(self, claim: Claim, *, looks_from: datetime, begins: bool = True) -> Turn | None:
        """Decide until calls are needed, a wait begins or the payment rests; write it down.

        Args:
            claim: Ours.
            looks_from: The time of the first decision.
            begins: False to begin no further calls: the saga is released, due at once.
        """
        change, sagas = self.change, self.batch.sagas
        while change.payment.state not in REST_STATES:
            match decide(self.saga, change.payment, self.records, now=looks_from):
                case Wait(due):
                    self.batch.payments.save(change)
                    sagas.release(claim, change.payment, due=due)
                    return None
                case FlowEvent() as event:
                    self._move(claim, event, looks_from)
                case _ if not begins:
                    self.batch.payments.save(change)
                    sagas.release(claim, change.payment, due=change.at)
                    return None
                case asks:
                    calls = [call for ask in asks if (call := self._intend(claim, ask))]
                    if calls:
                        self.batch.payments.save(change)
                        sagas.hold(claim, change.payment)
                        return Turn(claim=claim, calls=tuple(calls))
            looks_from = change.at
        self.batch.payments.save(change)
        sagas.follow(change.payment, now=change.at)
        return None

    def _intend(self, claim: Claim, ask: Ask) -> Call | None:
        """Write an intent and its command; return the call if it is for this worker to make."""
        at, is_ours = self.change.at, ask.request.service_id in self.means.services
        is_first = ask.record.started_at == ask.record.asked_at
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
            merchant_account=self.change.payment.merchant_account,
            data=ask.request.data,
            timestamp=record.started_at,
        )
        offered_until = None if is_ours else ask.answered_by
        self.batch.transport.send(record, command, offered_until=offered_until)
        if record.direction is Direction.UNDO:
            self._withdraw(claim)
        elif ask.has_undo and (record.step, Direction.UNDO) not in self.records:
            self._put(claim, _registered(record))
        self._put(claim, record)
        if not is_ours:
            return None
        return Call(record=record, command=command, is_after_put_off=ask.is_after_put_off)

    def _move(self, claim: Claim, event: FlowEvent, looks_from: datetime) -> None:
        """Move by an event that the saga's definition chose: a missing row is a bug in it."""
        change = self.change
        before = change.payment.state
        if not change.move(event):
            raise IllegalTransition(before, event)
        self._withdraw(claim)
        funds = change.payment.funds
        if change.payment.state is FlowState.DECLINED and (funds.held or funds.kept):
            change.move(FlowEvent.MONEY_CAME_LATE)
            at_stake = Money(funds.held + funds.kept, change.payment.amount.currency)
            self.batch.breaks.open(LATE_SUCCESS, change.payment, at_stake, now=change.at)
        if change.payment.state is FlowState.MANUAL_REVIEW:
            step = failed_undo(self.saga, change.payment, self.records, now=looks_from)
            self.batch.reviews.open(change.payment, step=step, now=change.at)

    def _leaves_something(self, intent: StepRecord, reply: Reply) -> bool:
        if intent.direction is Direction.UNDO or not reply.success:
            return False
        step = self._step(intent)
        is_given_up = self.change.payment.state in _GIVEN_UP
        return (
            is_given_up and step.undo is not None and step.leaves(self.change.payment, reply.data)
        )

    def _undo_again(self, claim: Claim, step: str) -> None:
        record = self.records.get((step, Direction.UNDO))
        is_over = self.change.payment.state is not FlowState.COMPENSATING
        if record and (is_over or record.status is not StepStatus.REGISTERED):
            self._put(claim, anew(record))
        if is_over:
            self.change.move(FlowEvent.ANSWER_CAME_LATE, step=step)
            payment = self.change.payment
            self.batch.breaks.open(LATE_SUCCESS, payment, payment.amount, now=self.change.at)

    def _withdraw(self, claim: Claim) -> None:
        """Offer elsewhere no longer what nobody waits for."""
        if any(
            record.status is StepStatus.SENT and record.direction is Direction.ACT
            for record in self.records.values()
        ):
            self.batch.transport.withdraw(claim.saga_id)

    def _learn(self, intent: StepRecord, reply: Reply) -> None:
        if intent.direction is Direction.UNDO or not reply.success:
            return
        fact = self._step(intent).learns(self.change.payment, reply.data, self.change.at)
        if fact is not None:
            self.change.record_fact(fact, payment_psp_reference=fact.reference)

    def _step(self, record: StepRecord) -> Step:
        return next(step for step in self.saga.steps if step.name == record.step)

    def _note(self, about: dict[str, object], reply: Reply, status: str) -> None:
        answered = about | {"status": status, "answer": dict(reply.data)}
        self.change.add(EventKind.STEP_ANSWERED, answered)

    def _put(self, claim: Claim, record: StepRecord) -> None:
        self.records[record.step, record.direction] = record
        self.batch.sagas.put_step(claim.saga_id, record)


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


def _about(record: StepRecord) -> dict[str, object]:
    return {
        "step": record.step,
        "direction": record.direction,
        "attempt": record.attempts,
    }
