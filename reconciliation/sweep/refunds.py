"""S8: refunds that the PSP took and never told of again, and refunds that came back.

A refund's outcome can't be asked for, so that a look is a note on the payment's timeline, once a
day, until the REFUND webhook or the settlement report tells. Every refund is a command, whoever
wanted it, and is found as one.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, RowMapping, text

from app.domain.anomalies import STATUS_MISMATCH
from app.domain.facts import Fact, FactKind
from app.domain.flow import FlowState
from app.domain.money import Money
from app.domain.payment import Change, EventKind, Payment
from app.persistence.batch import SqlBatch
from app.persistence.payments import payment_of
from reconciliation.sweep.cases import MISSING_AT_PSP
from reconciliation.sweep.findings import Action, Case, Finding, Look
from reconciliation.sweep.rules import (
    LOOKS_BACK,
    REFUND_CHECKED_EVERY,
    REFUND_GIVEN_UP_AFTER,
    REFUND_OVERDUE_AFTER,
)

#: The cause of what a sweep writes on a payment's timeline.
CAUSE = "sweep"

NOTE = "refund_not_confirmed"

_NOTED = """EXISTS (SELECT FROM payment_events e
    WHERE e.payment_id = {payment_id} AND e.cause = 'sweep' AND e.at > :noted_since
      AND e.data ->> 'note' = 'refund_not_confirmed'
      AND e.data ->> 'psp_reference' = {reference})"""

#: The PSP took it if it gave it a reference; whatever it says of that reference is its outcome. A
#: payment that is compensated has got its money back, whichever request did it.
_UNCONFIRMED = text(
    f"""
    SELECT p.*, c.timestamp AS asked_at, c.data AS asked, taken.reference
      FROM commands c
      JOIN saga_instances s USING (saga_id)
      JOIN payments p USING (payment_id)
      CROSS JOIN LATERAL (
            SELECT r.data ->> 'psp_reference' AS reference FROM responses r
             WHERE r.command_id = c.message_id AND r.success AND r.data ->> 'psp_reference' <> ''
             ORDER BY r.timestamp DESC LIMIT 1) AS taken
     WHERE c.operation = 'refund' AND c.timestamp <= :asked_before AND c.timestamp > :looks_back_to
       AND p.state <> 'compensated'
       AND (CAST(:merchant_account AS text) IS NULL OR p.merchant_account = :merchant_account)
       AND NOT p.facts @> jsonb_build_array(jsonb_build_object('reference', taken.reference))
       AND NOT {_NOTED.format(payment_id="p.payment_id", reference="taken.reference")}
       AND NOT EXISTS (SELECT FROM breaks b
                        WHERE b.kind = :kind AND b.merchant_account = p.merchant_account
                          AND b.subject = taken.reference)
     ORDER BY c.timestamp, c.message_id LIMIT :limit
    """  # noqa: S608  # a constant
)

_FAILURES = frozenset({FactKind.REFUND_FAILED, FactKind.REFUND_REVERSED})

_IS_NOTED = text("SELECT " + _NOTED.format(payment_id=":payment_id", reference=":reference"))

#: One that is not applied yet says nothing of the payment. Whoever is undoing the payment, or looks
#: at it by hand, knows that its money is not back.
_CAME_BACK = text(
    """
    SELECT p.*, i.psp_reference AS reference, i.event_code, i.received_at
      FROM webhook_inbox i
      JOIN payments p ON p.merchant_account = i.merchant_account
       AND p.psp_reference = i.original_reference
     WHERE i.event_code IN ('REFUND_FAILED', 'REFUNDED_REVERSED')
       AND i.received_at > :looks_back_to AND i.received_at <= :as_of
       AND p.state NOT IN ('compensating', 'manual_review') AND p.updated_at <= :quiet_since
       AND (CAST(:merchant_account AS text) IS NULL OR p.merchant_account = :merchant_account)
       AND NOT EXISTS (SELECT FROM breaks b
                        WHERE b.kind = :kind AND b.merchant_account = p.merchant_account
                          AND b.subject = i.psp_reference)
       AND NOT EXISTS (SELECT FROM breaks b
                        WHERE b.kind = :kind AND b.payment_id = p.payment_id AND b.state = 'open')
     ORDER BY i.received_at, i.guid LIMIT :limit
    """
)


def find_unconfirmed(connection: Connection, look: Look) -> list[Finding]:
    """Return the refunds that the PSP took, and has not told the outcome of."""
    values = look.values | {
        "asked_before": look.as_of - REFUND_OVERDUE_AFTER,
        "looks_back_to": look.as_of - LOOKS_BACK,
        "noted_since": look.as_of - REFUND_CHECKED_EVERY,
        "kind": MISSING_AT_PSP,
    }
    rows = connection.execute(_UNCONFIRMED, values).mappings()
    return [_unconfirmed(payment_of(row), row, look.as_of) for row in rows]


def find_come_back(connection: Connection, look: Look) -> list[Finding]:
    """Return the refunds that failed or were reversed, and that nobody repeats."""
    values = look.values | {"looks_back_to": look.as_of - LOOKS_BACK, "kind": STATUS_MISMATCH}
    found: dict[str, Finding] = {}
    for row in connection.execute(_CAME_BACK, values).mappings():
        payment, reference = payment_of(row), row["reference"]
        fact = _came_back(payment, reference)
        if fact is None:
            continue
        case = _case(STATUS_MISMATCH, payment, reference, fact.amount_minor)
        why = f"refund {reference} came back: {row['event_code']}"
        found.setdefault(
            case.subject,
            _finding(payment, reference, row["received_at"], Action.ESCALATE, why, case=case),
        )
    return list(found.values())


def has_come_back(payment: Payment) -> bool:
    """Tell whether a refund failed or was reversed, and was not repeated."""
    return any(
        _came_back(payment, fact.reference)
        for fact in payment.funds.facts
        if fact.kind in _FAILURES
    )


def note_unconfirmed(batch: SqlBatch, finding: Finding, *, as_of: datetime, now: datetime) -> None:
    """Keep on the payment's timeline that its refund is still not confirmed. The caller commits.

    A payment that somebody has locked is left for the next sweep, and so is one that another sweep
    has noted it on, or whose refund the PSP has told of since.
    """
    if finding.payment_id is None or finding.reference is None:
        return
    payment = batch.payments.lock([finding.payment_id]).get(finding.payment_id)
    if payment is None or payment.funds.tells_of(finding.reference):
        return
    noted = {
        "payment_id": finding.payment_id,
        "reference": finding.reference,
        "noted_since": as_of - REFUND_CHECKED_EVERY,
    }
    if batch.connection.execute(_IS_NOTED, noted).scalar_one():
        return
    change = Change(payment=payment, at=now, cause=CAUSE)
    change.add(EventKind.NOTED, {"note": NOTE, "psp_reference": finding.reference})
    batch.payments.save(change)
    batch.write(now=now)


def _unconfirmed(payment: Payment, row: RowMapping, as_of: datetime) -> Finding:
    reference, asked_at = row["reference"], row["asked_at"]
    why = f"refund {reference} not confirmed"
    if as_of >= asked_at + REFUND_GIVEN_UP_AFTER:
        amount_minor = _amount(row["asked"], payment)
        case = _case(MISSING_AT_PSP, payment, reference, amount_minor)
        return _finding(payment, reference, asked_at, Action.ESCALATE, why, case=case)
    again = min(as_of + REFUND_CHECKED_EVERY, asked_at + REFUND_GIVEN_UP_AFTER)
    return _finding(payment, reference, asked_at, Action.CHECK, why, next_look=again)


def _came_back(payment: Payment, reference: str) -> Fact | None:
    """Return the failure of a refund; None if a later word of the PSP takes it back."""
    refunds = (refund for hold in payment.funds.holds for refund in hold.of(FactKind.REFUNDED))
    if any(refund.reference == reference for refund in refunds):
        return None
    if payment.state is FlowState.COMPENSATED and not payment.funds.kept:
        return None
    failures = [
        fact
        for fact in payment.funds.facts
        if fact.reference == reference and fact.kind in _FAILURES
    ]
    return max(failures, key=lambda fact: (fact.occurred_at, fact.kind), default=None)


def _amount(asked: Mapping[str, object], payment: Payment) -> int:
    amount_minor = asked.get("amount_minor")
    return amount_minor if isinstance(amount_minor, int) else payment.amount.amount_minor


def _case(kind: str, payment: Payment, reference: str, amount_minor: int) -> Case:
    return Case(
        kind=kind,
        merchant_account=payment.merchant_account,
        subject=reference,
        payment_id=payment.payment_id,
        amount=Money(amount_minor, payment.amount.currency),
    )


def _finding(
    payment: Payment,
    reference: str,
    since: datetime,
    action: Action,
    why: str,
    *,
    next_look: datetime | None = None,
    case: Case | None = None,
) -> Finding:
    return Finding(
        rule="S8",
        merchant_account=payment.merchant_account,
        subject=str(payment.payment_id),
        payment_id=payment.payment_id,
        reference=reference,
        state=payment.state,
        since=since,
        action=action,
        why=why,
        next_look=next_look,
        case=case,
    )
