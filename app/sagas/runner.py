"""Claim, run, advance: one saga at a time, one call at a time, no call inside a transaction.

A turn of the loop is: plan (write the intent, commit), call, settle (write the result and the next
intent, commit). A crash anywhere leaves either an intent without a result, which the next worker
repeats under the same key when the lease is over, or a result with its next intent.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, Self
from uuid import UUID

from app import failpoints
from app.clock import Clock
from app.domain.flow import REST_STATES, FlowEvent
from app.domain.funds import Fact, FactKind
from app.domain.identifiers import step_key
from app.domain.payment import Change, EventKind, Payment
from app.domain.saga import Claim, Direction, StepRecord, StepStatus
from app.errors import GatewayError, GatewayNotAsked, GatewayRejected, IllegalTransition
from app.sagas.decisions import Ask, Wait, decide
from app.sagas.definition import Call, Outcome, Saga
from app.services.ports import Gateways, SagaRepository, UnitOfWork


class RunnerSagas(SagaRepository, Protocol):
    """The sagas' progress, as the runner writes it."""

    def claim_due(
        self,
        *,
        as_of: datetime,
        now: datetime,
        lease_until: datetime,
        owner: str,
        payment_id: UUID | None,
    ) -> tuple[Claim, Payment] | None:
        """Claim the saga that has been due longest, and lock its payment; None if none is free.

        Due is what is due at ``as_of``; free is what nobody holds a lease on ``now``.
        Skips rows that others hold, so that it never waits and never deadlocks.
        """
        ...

    def renew(self, claim: Claim, *, lease_until: datetime) -> Claim | None:
        """Lock the saga and renew the claim; None if somebody else has moved it since."""
        ...

    def release(self, claim: Claim, payment: Payment, *, due: datetime) -> None:
        """Give up the claim; the saga waits and is due again at ``due``."""
        ...

    def hold(self, claim: Claim, payment: Payment) -> None:
        """Keep the claim while the saga's current step becomes the payment's state."""
        ...

    def steps(self, payment_id: UUID) -> list[StepRecord]:
        """Return the step records of the payment's saga."""
        ...

    def put_step(self, saga_id: UUID, record: StepRecord, key: str, *, now: datetime) -> None:
        """Insert or update one step record."""
        ...


class RunnerUnitOfWork(UnitOfWork, Protocol):
    """A unit of work that can also run sagas."""

    @property
    def sagas(self) -> RunnerSagas:
        """The sagas inside this transaction."""
        ...

    def __enter__(self) -> Self: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A call whose intent is on disk."""

    claim: Claim
    payment: Payment
    ask: Ask
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What became of one turn.

    Attributes:
        has_run: False if no saga was due.
        is_party_away: True if an outside service could not be reached or gave no answer.
    """

    has_run: bool
    is_party_away: bool


class SagaRunner:
    """Runs due sagas, one after the other. Thread-safe; any number may run, on any hosts."""

    def __init__(
        self,
        saga: Saga,
        *,
        gateways: Gateways,
        unit_of_work: Callable[[], RunnerUnitOfWork],
        clock: Clock,
        owner: str,
        lease_seconds: int,
        jitter: Callable[[float], float] | None = None,
    ) -> None:
        """Wire the runner.

        Args:
            saga: The definition; instances of another version are left to workers that know it.
            gateways: The outside services.
            unit_of_work: Opens a transaction.
            clock: Decides what is due.
            owner: Names this worker in the claims.
            lease_seconds: Longer than any single call may take.
            jitter: Draws a wait below a bound; evenly distributed unless a test says otherwise.
        """
        self._saga = saga
        self._gateways = gateways
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._jitter = jitter or (lambda bound: random.uniform(0, bound))  # noqa: S311

    def run_next(self, payment_id: UUID | None = None, *, as_of: datetime | None = None) -> bool:
        """Take the saga that is due longest as far as it goes without waiting.

        Args:
            payment_id: Only this payment's saga; any if None.
            as_of: What counts as due, and the time of the first decision; now if None. Whatever is
                written carries the time of now.

        Returns:
            False if no saga was due.
        """
        return self.run(payment_id, as_of=as_of).has_run

    def run(self, payment_id: UUID | None = None, *, as_of: datetime | None = None) -> Ran:
        """Do as ``run_next`` does, and tell how it went."""
        failed = False
        plan, has_claimed = self._claim(payment_id, as_of)
        while plan is not None:
            failpoints.hit("saga.before_effect")
            try:
                call = Call(payment=plan.payment, idempotency_key=plan.key, gateways=self._gateways)
                outcome: Outcome | GatewayError = plan.ask.act(call)
            except GatewayError as error:
                outcome = error
                failed = failed or error.retryable
            failpoints.hit("saga.after_effect")
            plan = self._settle(plan, outcome)
            failpoints.hit("saga.after_commit")
        return Ran(has_run=has_claimed, is_party_away=failed)

    def _claim(self, payment_id: UUID | None, as_of: datetime | None) -> tuple[_Plan | None, bool]:
        now = self._clock.now()
        looks_from = as_of or now
        with self._unit_of_work() as uow:
            claimed = uow.sagas.claim_due(
                as_of=looks_from,
                now=now,
                lease_until=now + self._lease,
                owner=self._owner,
                payment_id=payment_id,
            )
            if claimed is None:
                return None, False
            claim, payment = claimed
            change = Change(payment=payment, at=now, cause=f"saga:{payment.state}")
            plan = self._go_on(uow, claim, change, looks_from=looks_from)
            uow.commit()
        return plan, True

    def _settle(self, plan: _Plan, outcome: Outcome | GatewayError) -> _Plan | None:
        now = self._clock.now()
        with self._unit_of_work() as uow:
            payment = uow.payments.get_for_update(plan.payment.payment_id)
            change = Change(payment=payment, at=now, cause=f"saga:{plan.ask.record.step}")
            _keep_evidence(change, plan, outcome)
            claim = uow.sagas.renew(plan.claim, lease_until=now + self._lease)
            if claim is None:
                # A webhook or another worker moved the saga: our answer is evidence, nothing more.
                uow.payments.save(change)
                uow.commit()
                return None
            record, event = _result(plan, outcome)
            uow.sagas.put_step(claim.saga_id, record, plan.key, now=now)
            if event is not None:
                self._move(change, event)
            just_called = record if event is None else None
            following = self._go_on(uow, claim, change, looks_from=now, just_called=just_called)
            uow.commit()
        return following

    def _go_on(
        self,
        uow: RunnerUnitOfWork,
        claim: Claim,
        change: Change,
        *,
        looks_from: datetime,
        just_called: StepRecord | None = None,
    ) -> _Plan | None:
        """Decide until a call is needed, a wait begins or the payment rests; write it down."""
        records = {
            (record.step, record.direction): record for record in uow.sagas.steps(claim.payment_id)
        }
        while change.payment.state not in REST_STATES:
            decision = decide(
                self._saga, change.payment, records, now=looks_from, just_called=just_called
            )
            match decision:
                case Ask():
                    return self._intend(uow, claim, change, decision)
                case Wait():
                    cut = timedelta(seconds=self._jitter(decision.jitter_seconds))
                    due = decision.due - cut
                    uow.payments.save(change)
                    uow.sagas.release(claim, change.payment, due=due)
                    return None
                case event:
                    self._move(change, event)
                    looks_from, just_called = change.at, None
        uow.payments.save(change)
        uow.sagas.follow(change.payment, now=change.at)
        return None

    def _intend(self, uow: RunnerUnitOfWork, claim: Claim, change: Change, ask: Ask) -> _Plan:
        is_first = ask.record.started_at == ask.record.asked_at
        record = replace(ask.record, asked_at=change.at)
        if is_first:
            record = replace(record, started_at=change.at)
        key = step_key(claim.saga_id, record.step, record.direction, record.round)
        uow.payments.save(change)
        uow.sagas.hold(claim, change.payment)
        uow.sagas.put_step(claim.saga_id, record, key, now=change.at)
        return _Plan(claim=claim, payment=change.payment, ask=replace(ask, record=record), key=key)

    @staticmethod
    def _move(change: Change, event: FlowEvent) -> None:
        """Move by an event that the saga's definition chose: a missing row is a bug in it."""
        before = change.payment.state
        if not change.move(event):
            raise IllegalTransition(before, event)


def _result(plan: _Plan, outcome: Outcome | GatewayError) -> tuple[StepRecord, FlowEvent | None]:
    """Return what the call made of its step record, and where the answer alone sends the flow."""
    record = plan.ask.record
    if isinstance(outcome, Outcome):
        return replace(record, status=outcome.status, response=outcome.evidence), outcome.event
    if isinstance(outcome, GatewayNotAsked):
        return replace(record, status=StepStatus.PUT_OFF), None
    if not isinstance(outcome, GatewayRejected) or record.direction is Direction.UNDO:
        return record, None
    if record.attempts == 1:
        return replace(record, status=StepStatus.REFUSED), plan.ask.on_rejected
    # An earlier call of this step stayed without answer, and may have done what this one may not.
    return record, plan.ask.on_deadline


def _keep_evidence(change: Change, plan: _Plan, outcome: Outcome | GatewayError) -> None:
    record = plan.ask.record
    data: dict[str, object] = {
        "step": record.step,
        "direction": record.direction,
        "attempt": record.attempts,
    }
    if isinstance(outcome, GatewayError):
        data |= {"error": outcome.code, "detail": str(outcome)}
        change.add(EventKind.STEP_FAILED, data)
        return
    data |= {"status": outcome.status, "answer": dict(outcome.evidence)}
    change.add(EventKind.STEP_ANSWERED, data)
    if outcome.payment_psp_reference:
        pending = Fact(
            kind=FactKind.PENDING,
            reference=outcome.payment_psp_reference,
            amount_minor=change.payment.amount.amount_minor,
            occurred_at=change.at,
        )
        change.record_fact(pending, payment_psp_reference=outcome.payment_psp_reference)
