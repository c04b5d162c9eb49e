"""S2, S3, S5, S6, S7 and S9: payments that rest in the middle.

What is to be done about one is decided by its saga's own rules, as of the sweep's time; what is
done is left to the saga's own runner, so that it is claimed, fenced and keyed like everything else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from app.domain.flow import REST_STATES, FlowEvent, FlowState, next_state
from app.domain.payment import Payment
from app.domain.saga import Direction, StepRecord, StepStatus
from app.persistence.batch import SqlBatch
from app.persistence.payments import payment_of
from app.sagas.asking import Ask, Wait
from app.sagas.decisions import Decision, decide
from app.sagas.definition import Definitions, Records, Saga
from reconciliation.sweep.findings import QUIET, Action, Finding, Look
from reconciliation.sweep.rules import UNSENT_AFTER, UNSENT_GIVEN_UP_AFTER

#: The rules whose findings the saga's runner carries out.
RULES_OF_SAGAS = frozenset({"S2", "S3", "S5", "S6", "S7", "S9"})

#: Sagas that are looked at together.
PAGE = 500

_RULE_OF_STATE = MappingProxyType(
    {
        FlowState.FRAUD_CHECK: "S2",
        FlowState.PREAUTH: "S2",
        FlowState.BOOKING_CONFIRMATION: "S5",
        FlowState.CAPTURE: "S6",
        FlowState.EMAIL: "S9",
        FlowState.COMPENSATING: "S7",
    }
)

_BOOKING_FAILED = frozenset({FlowEvent.BOOKING_REFUSED, FlowEvent.BOOKING_UNRESOLVED})

_ACTION_OF_STATE = MappingProxyType(
    {
        FlowState.COMPENSATING: Action.COMPENSATE,
        FlowState.MANUAL_REVIEW: Action.ESCALATE,
        FlowState.DECLINED: Action.DECLINE,
        FlowState.COMPENSATED: Action.REST,
    }
)

_STUCK = text(
    """
    SELECT s.saga_id, s.definition_version, s.due AS saga_due, p.*
      FROM saga_instances s JOIN payments p USING (payment_id)
     WHERE s.due BETWEEN :after_due AND :as_of AND (s.due, s.payment_id) > (:after_due, :after)
       AND s.updated_at <= :quiet_since AND p.updated_at <= :quiet_since
       AND (s.lease_until IS NULL OR s.lease_until <= :as_of)
       AND s.saga_type = :saga_type AND s.definition_version = ANY(:versions)
       AND (CAST(:merchant_account AS text) IS NULL OR p.merchant_account = :merchant_account)
       AND NOT EXISTS (SELECT FROM saga_steps t
                        WHERE t.saga_id = s.saga_id AND t.updated_at > :quiet_since)
     ORDER BY s.due, s.payment_id LIMIT :page
    """
)

_LAST_MOVES = text(
    """
    SELECT payment_id, max(at) AS at FROM payment_events
     WHERE payment_id = ANY(:payment_ids) AND kind = 'flow_moved' GROUP BY payment_id
    """
)

#: A worker that holds the saga is left alone, and not waited for.
_IDLE_MAIL = text(
    """
    SELECT saga_id FROM saga_instances
     WHERE payment_id = :payment_id AND current_step = 'email'
       AND (lease_until IS NULL OR lease_until <= :now)
       FOR UPDATE SKIP LOCKED
    """
)


def find_stuck(batch: SqlBatch, look: Look, definitions: Definitions) -> list[Finding]:
    """Return the payments that nobody moves, though their patience is over."""
    found: list[Finding] = []
    for rows in _pages(batch.connection, look, definitions):
        records = batch.sagas.records([row["saga_id"] for row in rows])
        moved_at = _last_moves(batch.connection, [row["payment_id"] for row in rows])
        for row in rows:
            since = moved_at.get(row["payment_id"], row["created_at"])
            try:
                saga = definitions.version(row["definition_version"])
                finding = _finding(saga, payment_of(row), records[row["saga_id"]], since, look)
            except Exception as error:  # noqa: BLE001  # it belongs to this payment alone
                finding = _undecidable(row, since, error)
            if finding is not None:
                found.append(finding)
            if len(found) == look.limit:
                return found
    return found


def renew_patience(batch: SqlBatch, finding: Finding, *, as_of: datetime, now: datetime) -> None:
    """Let a mail be asked for again though its patience is over (S9). The caller commits.

    Left alone is a saga that somebody has claimed or locked meanwhile.
    """
    if finding.payment_id is None:
        return
    wanted = {"payment_id": finding.payment_id, "now": now}
    for saga_id in batch.connection.execute(_IDLE_MAIL, wanted).scalars().all():
        record = batch.sagas.records([saga_id])[saga_id].get((FlowState.EMAIL, Direction.ACT))
        if record is not None and record.status in _UNSENT:
            batch.sagas.put_step(saga_id, _renewed(record, as_of))
            batch.sagas.write(now=now)


def _pages(
    connection: Connection, look: Look, definitions: Definitions
) -> Iterator[Sequence[RowMapping]]:
    """Yield stuck sagas, longest due first: those that decide to wait take up no place."""
    values = look.values | {
        "saga_type": definitions.name,
        "versions": definitions.versions,
        "page": PAGE,
        "after_due": datetime.min.replace(tzinfo=UTC),
        "after": UUID(int=0),
    }
    while rows := connection.execute(_STUCK, values).mappings().all():
        yield rows
        if len(rows) < PAGE:
            return
        values |= {"after_due": rows[-1]["saga_due"], "after": rows[-1]["payment_id"]}


def _last_moves(connection: Connection, payment_ids: list[UUID]) -> Mapping[UUID, datetime]:
    rows = connection.execute(_LAST_MOVES, {"payment_ids": payment_ids})
    return {row.payment_id: row.at for row in rows}


def _finding(
    saga: Saga, payment: Payment, records: Records, since: datetime, look: Look
) -> Finding | None:
    as_of = look.as_of
    rule = _rule(payment, records)
    if rule == "S9" and as_of < since + UNSENT_AFTER:
        return None
    decision = decide(saga, payment, records, now=as_of)
    if rule == "S9" and isinstance(decision, FlowEvent) and as_of < since + UNSENT_GIVEN_UP_AFTER:
        decision = decide(saga, payment, _with_patience(records, as_of), now=as_of)
    told = _told(saga, payment, records, decision)
    if told is None:
        return None
    action, why, wait = told
    return Finding(
        rule=rule,
        merchant_account=payment.merchant_account,
        subject=str(payment.payment_id),
        payment_id=payment.payment_id,
        version=payment.version,
        state=payment.state,
        since=since,
        action=action,
        why=why,
        next_look=None if wait is None else as_of + max(wait, QUIET),
    )


def _undecidable(row: RowMapping, since: datetime, error: Exception) -> Finding:
    """Tell of a payment that our own rules stumble over, through a mistake of ours."""
    return Finding(
        rule=_RULE_OF_STATE.get(row["state"], "S2"),
        merchant_account=row["merchant_account"],
        subject=str(row["payment_id"]),
        payment_id=row["payment_id"],
        version=row["version"],
        state=row["state"],
        since=since,
        action=Action.ESCALATE,
        why=f"can't be decided: {type(error).__name__}",
    )


def _rule(payment: Payment, records: Records) -> str:
    """Name the rule that a payment in a working state falls under."""
    if payment.state is FlowState.PREAUTH:
        record = records.get((FlowState.PREAUTH, Direction.ACT))
        return "S3" if record is not None and record.status is StepStatus.WAITING else "S2"
    if payment.state is FlowState.COMPENSATING:
        has_begun = any(
            direction is Direction.UNDO and record.status is not StepStatus.REGISTERED
            for (_step, direction), record in records.items()
        )
        return "S7" if has_begun or payment.reason not in _BOOKING_FAILED else "S5"
    return _RULE_OF_STATE[payment.state]


def _told(
    saga: Saga, payment: Payment, records: Records, decision: Decision
) -> tuple[Action, str, timedelta | None] | None:
    """Return what is done, why, and how soon again; None if there is nothing to do yet."""
    match decision:
        case Wait():
            return None
        case FlowEvent() as event:
            after = next_state(payment.state, event)
            action = _ACTION_OF_STATE.get(after, Action.ADVANCE)
            if event is FlowEvent.MAIL_FAILED:
                action = Action.REST
            return action, event.value, None if after in REST_STATES else QUIET
        case asks:
            why = " and ".join(_why(ask, records) for ask in asks)
            return Action.RETRY, why, min(_wait_after(saga, ask) for ask in asks)


def _why(ask: Ask, records: Records) -> str:
    """Say how far a step came that is to be asked now."""
    record = records.get((ask.record.step, ask.record.direction))
    status = record.status if record is not None else StepStatus.REGISTERED
    undo = "undo of " if ask.record.direction is Direction.UNDO else ""
    return f"{undo}{ask.record.step} {_SO_FAR.get(status, status.value)}"


_SO_FAR = MappingProxyType(
    {
        StepStatus.REGISTERED: "not asked yet",
        StepStatus.ASKED: "without an answer",
        StepStatus.PUT_OFF: "without an answer",
        StepStatus.SENT: "without an answer",
        StepStatus.WAITING: "without its webhook",
    }
)


def _wait_after(saga: Saga, ask: Ask) -> timedelta:
    """Return the longest wait after a call that is left without answer."""
    step = next(step for step in saga.steps if step.name == ask.record.step)
    retry, patience = step.retry, step.ask_again_seconds or 0
    if ask.record.direction is Direction.UNDO and step.undo:
        retry, patience = step.undo.retry, step.undo.webhook_seconds
    return timedelta(seconds=max(retry.delay_after(ask.record.attempts) or 0.0, patience))


def _with_patience(records: Records, as_of: datetime) -> Records:
    key = (FlowState.EMAIL.value, Direction.ACT)
    record = records.get(key)
    if record is None or record.status not in _UNSENT:
        return records
    return {**records, key: _renewed(record, as_of)}


#: The mail may not have left: whoever asked died, or the server was away.
_UNSENT = frozenset({StepStatus.ASKED, StepStatus.PUT_OFF})


def _renewed(record: StepRecord, as_of: datetime) -> StepRecord:
    return replace(record, attempts=0, due=None, started_at=as_of, asked_at=as_of)
