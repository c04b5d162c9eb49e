"""S2, S6, S7: payments that are a person's, or become one's now."""

from datetime import datetime

from sqlalchemy import Connection, text

from app.domain.flow import FlowEvent
from app.domain.payment import Payment
from app.persistence.payments import payment_of
from reconciliation.sweep.cases import MISSING_AT_PSP
from reconciliation.sweep.findings import Action, Case, Finding, Look
from reconciliation.sweep.rules import NEVER_HEARD_OF_AFTER

_NEVER_HEARD_OF = text(
    """
    SELECT p.*, t.started_at AS asked_at
      FROM saga_instances s JOIN payments p USING (payment_id)
      JOIN saga_steps t ON t.saga_id = s.saga_id AND t.step = 'preauth' AND t.direction = 'act'
     WHERE s.due IS NOT NULL AND s.current_step = 'compensating'
       AND p.psp_reference IS NULL AND p.facts = '[]' AND t.started_at <= :asked_before
       AND (CAST(:merchant_account AS text) IS NULL OR p.merchant_account = :merchant_account)
       AND NOT EXISTS (SELECT FROM breaks b
                        WHERE b.kind = :kind AND b.merchant_account = p.merchant_account
                          AND b.subject = CAST(p.payment_id AS text))
     ORDER BY t.started_at, p.payment_id LIMIT :limit
    """
)

_REVIEWS = text(
    """
    SELECT r.reason, r.step, r.owner, r.opened_at, r.payment_id, r.merchant_account, p.state
      FROM reviews r JOIN payments p USING (payment_id)
     WHERE r.closed_at IS NULL AND r.opened_at <= :as_of
       AND (CAST(:merchant_account AS text) IS NULL OR r.merchant_account = :merchant_account)
     ORDER BY r.opened_at, r.payment_id LIMIT :limit
    """
)


def find_never_heard_of(connection: Connection, look: Look) -> list[Finding]:
    """Return the payments that the PSP never answered for, and has confirmed no undo of (S2)."""
    values = {"asked_before": look.as_of - NEVER_HEARD_OF_AFTER, "kind": MISSING_AT_PSP}
    rows = connection.execute(_NEVER_HEARD_OF, look.values | values).mappings()
    return [_never_heard_of(payment_of(row), since=row["asked_at"]) for row in rows]


def find_reviews(connection: Connection, look: Look) -> list[Finding]:
    """Return the payments that a person has, and has not settled."""
    return [
        Finding(
            rule="S6" if row["reason"] == FlowEvent.CAPTURE_UNRESOLVED else "S7",
            merchant_account=row["merchant_account"],
            subject=str(row["payment_id"]),
            payment_id=row["payment_id"],
            state=row["state"],
            since=row["opened_at"],
            action=Action.PAGE,
            why=f"{row['reason']}; with {row['owner']}",
        )
        for row in connection.execute(_REVIEWS, look.values).mappings()
    ]


def _never_heard_of(payment: Payment, *, since: datetime) -> Finding:
    case = Case(
        kind=MISSING_AT_PSP,
        merchant_account=payment.merchant_account,
        subject=str(payment.payment_id),
        payment_id=payment.payment_id,
        amount=payment.amount,
    )
    return Finding(
        rule="S2",
        merchant_account=payment.merchant_account,
        subject=case.subject,
        payment_id=payment.payment_id,
        state=payment.state,
        since=since,
        action=Action.ESCALATE,
        why="the PSP has never said a word of it",
        case=case,
    )
