"""The sweep: finds what is stuck and moves it on (psp-reports.md section 3.3).

The worker's timers do all of this by themselves. The sweep is the second line: it works when no
worker does, it can be asked what it would do, and it can look from a later time (``--as-of``) at
what would be stuck by then. It decides by the saga's own rules and leaves the calls to the saga's
own runner, so that whatever it does is claimed, fenced and keyed like everything else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import Connection, text

from app.clock import Clock
from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import Payment
from app.persistence.unit_of_work import SqlUnitOfWork
from app.sagas.decisions import Decision, Wait, decide
from app.sagas.definition import Definitions
from app.sagas.runner import SagaRunner


class Action(StrEnum):
    """What the sweep does about a finding."""

    PROCESS = "process"  #: apply a webhook that was stored and not applied
    ADVANCE = "advance"  #: the evidence is there; move on
    RETRY = "retry"  #: ask again, under the same key
    COMPENSATE = "compensate"  #: give up and undo
    DECLINE = "decline"  #: give up; nothing is held
    ESCALATE = "escalate"  #: a person must look
    REST = "rest"  #: the last step is settled


#: The rule that finds a payment in each working state, by its name in psp-reports.md section 3.3.
RULES = MappingProxyType(
    {
        FlowState.FRAUD_CHECK: "S2",
        FlowState.PREAUTH: "S3",
        FlowState.BOOKING_CONFIRMATION: "S5",
        FlowState.CAPTURE: "S6",
        FlowState.EMAIL: "S9",
        FlowState.COMPENSATING: "S7",
    }
)

_ACTION_BY_EVENT = MappingProxyType(
    {
        FlowEvent.AUTHORISATION_UNRESOLVED: Action.COMPENSATE,
        FlowEvent.AUTHORISATION_FELL_SHORT: Action.COMPENSATE,
        FlowEvent.HOLD_RELEASED: Action.COMPENSATE,
        FlowEvent.CAPTURE_FELL_SHORT: Action.COMPENSATE,
        FlowEvent.BOOKING_REFUSED: Action.COMPENSATE,
        FlowEvent.BOOKING_UNRESOLVED: Action.COMPENSATE,
        FlowEvent.CAPTURE_REFUSED: Action.COMPENSATE,
        FlowEvent.CAPTURE_UNRESOLVED: Action.ESCALATE,
        FlowEvent.UNDO_FAILED: Action.ESCALATE,
        FlowEvent.UNDO_COMPLETED: Action.REST,
        FlowEvent.MAIL_FAILED: Action.REST,
        FlowEvent.FRAUD_CHECK_FAILED: Action.DECLINE,
        FlowEvent.AUTHORISATION_REFUSED: Action.DECLINE,
    }
)

_STUCK = text(
    """
    SELECT payment_id FROM saga_instances
     WHERE due <= :as_of AND updated_at <= :before
       AND (lease_until IS NULL OR lease_until <= :now)
       AND (CAST(:merchant_account AS text) IS NULL
            OR payment_id IN (SELECT payment_id FROM payments
                               WHERE merchant_account = :merchant_account))
     ORDER BY due, payment_id
    """
)

_UNPROCESSED = text(
    """
    SELECT w.guid, i.event_code, w.due FROM inbox_work w JOIN webhook_inbox i USING (guid)
     WHERE w.state = 'new' AND w.due <= :before
       AND (CAST(:merchant_account AS text) IS NULL OR i.merchant_account = :merchant_account)
     ORDER BY w.due, w.guid
    """
)

#: A webhook that is younger than this is simply on its way through the worker (S1).
UNPROCESSED_AFTER = timedelta(minutes=2)

#: A saga that somebody worked on this recently is not stuck.
QUIET = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is stuck, and what is to be done about it.

    Attributes:
        subject: The payment's id, or the webhook's GUID under rule S1.
        state: The payment's flow state, or the webhook's event code.
        why: The event or the wait that the saga's rules came to.
    """

    rule: str
    subject: UUID
    state: str
    action: Action
    why: str

    def as_json(self) -> dict[str, object]:
        """Return the finding as plain JSON values."""
        return {
            "rule": self.rule,
            "subject": str(self.subject),
            "state": self.state,
            "action": self.action.value,
            "why": self.why,
        }


class Sweep:
    """One sweep. Deterministic: the same rows and the same time give the same plan."""

    def __init__(
        self,
        *,
        definitions: Definitions,
        unit_of_work: Callable[[], SqlUnitOfWork],
        runner: SagaRunner,
        drain_next: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """Wire the sweep.

        Args:
            definitions: Those that decide.
            unit_of_work: Opens a transaction.
            runner: Carries out what was decided.
            drain_next: Applies the next due webhook; False if there is none.
            clock: Tells which leases are over; ``as_of`` can't end one.
        """
        self._definitions = definitions
        self._unit_of_work = unit_of_work
        self._runner = runner
        self._drain_next = drain_next
        self._clock = clock

    def plan(self, *, as_of: datetime, merchant_account: str | None = None) -> list[Finding]:
        """Return what is stuck at ``as_of``, oldest first. Changes nothing.

        A payment whose patience is not used up by then is not stuck, and is left out.
        """
        with self._unit_of_work() as uow:
            found = self._unprocessed(uow.connection, as_of, merchant_account)
            wanted = {
                "as_of": as_of,
                "before": as_of - QUIET,
                "now": self._clock.now(),
                "merchant_account": merchant_account,
            }
            for payment_id in uow.connection.execute(_STUCK, wanted).scalars():
                payment = uow.payments.get(payment_id)
                finding = _finding(payment, self._decision(uow, payment, as_of))
                if finding is not None:
                    found.append(finding)
        return found

    def carry_out(self, findings: list[Finding], *, as_of: datetime) -> int:
        """Move on what was found, as seen from ``as_of``, until it waits or rests.

        The first decision on each payment is made as of then; what follows from it, and every time
        that is written, is of now. Safe beside running workers and other sweeps: each payment is
        claimed, and one that has moved
        meanwhile is left to whoever moved it.

        Returns:
            How many payments met an outside service that was away; they will be due again.
        """
        if any(finding.rule == "S1" for finding in findings):
            while self._drain_next():
                pass
        runs = [
            self._runner.run(finding.subject, as_of=as_of)
            for finding in findings
            if finding.rule != "S1"
        ]
        return sum(1 for ran in runs if ran.is_party_away)

    def _unprocessed(
        self, connection: Connection, as_of: datetime, merchant_account: str | None
    ) -> list[Finding]:
        wanted = {"before": as_of - UNPROCESSED_AFTER, "merchant_account": merchant_account}
        return [
            Finding(
                rule="S1",
                subject=row.guid,
                state=row.event_code,
                action=Action.PROCESS,
                why="stored_and_not_applied",
            )
            for row in connection.execute(_UNPROCESSED, wanted)
        ]

    def _decision(self, uow: SqlUnitOfWork, payment: Payment, as_of: datetime) -> Decision:
        records = {
            (record.step, record.direction): record
            for record in uow.sagas.steps(payment.payment_id)
        }
        version = uow.sagas.definition_version(payment.payment_id)
        return decide(self._definitions.version(version), payment, records, now=as_of)


def _finding(payment: Payment, decision: Decision) -> Finding | None:
    match decision:
        case Wait():
            return None
        case FlowEvent() as event:
            action, why = _ACTION_BY_EVENT.get(event, Action.ADVANCE), event.value
        case asks:
            what = [f"{ask.record.step}_{ask.record.direction}" for ask in asks]
            action, why = Action.RETRY, f"ask_{'_and_'.join(what)}"
    return Finding(
        rule=RULES[payment.state],
        subject=payment.payment_id,
        state=payment.state,
        action=action,
        why=why,
    )
