"""S1 and S4: stored webhooks that are not applied."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy import Connection, RowMapping, TextClause, text

from app.domain.money import Money
from reconciliation.sweep.cases import NO_AMOUNT
from reconciliation.sweep.findings import QUIET, Action, Case, Finding, Look
from reconciliation.sweep.rules import MISSING_AFTER, UNPROCESSED_AFTER

#: The PSP tells of a payment, and we have none, and can make none of what it tells.
MISSING_IN_LEDGER = "MISSING_IN_LEDGER"


@dataclass(frozen=True, slots=True)
class Orphan:
    """What a webhook without a payment says of it.

    Attributes:
        amount: None if it says none.
        can_be_kept: True if a payment can be made of it.
    """

    amount: Money | None
    can_be_kept: bool


class StoredWebhooks(Protocol):
    """The inbox, as a sweep uses it."""

    def apply(self, guids: Sequence[UUID]) -> None:
        """Apply these webhooks now, but those that a worker has in its hands."""
        ...

    def orphan(self, guid: UUID) -> Orphan:
        """Return what a stored webhook says of its payment."""
        ...


_OLDEST = """
    SELECT w.guid, w.attempts, w.error, w.due, w.is_again, i.merchant_account, i.event_code,
           i.received_at, {awaits} AS awaits, {is_missing} AS is_missing
      FROM inbox_work w JOIN webhook_inbox i USING (guid)
     WHERE {condition}
       AND (CAST(:merchant_account AS text) IS NULL OR i.merchant_account = :merchant_account)
     ORDER BY w.due, w.guid LIMIT :limit
"""

_IS_ORPHAN = (
    "w.state = 'parked'"
    " AND (w.awaits_merchant_reference IS NOT NULL OR w.awaits_psp_reference IS NOT NULL)"
)

_AWAITS = "coalesce(w.awaits_psp_reference, w.awaits_merchant_reference)"

_IS_MISSING = f"""(i.received_at <= :missing_since
    AND NOT EXISTS (SELECT FROM breaks b
                     WHERE b.kind = 'MISSING_IN_LEDGER'
                       AND b.merchant_account = i.merchant_account AND b.subject = {_AWAITS}))"""


def _oldest(condition: str, *, is_missing: str = "false") -> TextClause:
    query = _OLDEST.format(awaits=_AWAITS, is_missing=is_missing, condition=condition)
    return text(query)


#: One that was tried or looked at was worked on shortly before it was due.
_UNPROCESSED = _oldest(
    f"w.state <> 'dead' AND w.due <= :stored_before AND NOT ({_IS_ORPHAN})"
    " AND (w.due <= :quiet_since OR (w.state = 'new' AND w.attempts = 0))"
)
_DEAD = _oldest("w.state = 'dead'")
_ORPHANS = _oldest(
    f"{_IS_ORPHAN} AND i.received_at <= :grace_began AND (w.due <= :quiet_since OR {_IS_MISSING})",
    is_missing=_IS_MISSING,
)

_STILL_ORPHAN = text(
    f"SELECT FROM inbox_work w WHERE w.guid = :guid AND {_IS_ORPHAN} FOR UPDATE SKIP LOCKED"
)


def find_unprocessed(connection: Connection, look: Look) -> list[Finding]:
    """Return the webhooks that a worker should have applied (S1)."""
    values = look.values | {"stored_before": look.as_of - UNPROCESSED_AFTER}
    return [
        _finding(
            row,
            rule="S1",
            action=Action.PROCESS,
            why=f"failed {row['attempts']} times" if row["attempts"] else "not applied",
            look=look,
        )
        for row in connection.execute(_UNPROCESSED, values).mappings()
    ]


def find_dead(connection: Connection, look: Look) -> list[Finding]:
    """Return the webhooks that were given up (S1)."""
    return [
        _finding(row, rule="S1", action=Action.ESCALATE, why=f"dead: {row['error']}", look=look)
        for row in connection.execute(_DEAD, look.values).mappings()
    ]


def find_orphans(
    connection: Connection, look: Look, *, grace: timedelta, orphan: Callable[[UUID], Orphan]
) -> list[Finding]:
    """Return the webhooks whose payment is not here (S4).

    Args:
        connection: Read from here.
        look: From when.
        grace: How long a webhook waits for its payment before the payment counts as external.
        orphan: See ``StoredWebhooks``.
    """
    values = look.values | {
        "grace_began": look.as_of - grace,
        "missing_since": look.as_of - MISSING_AFTER,
    }
    found: dict[tuple[str, str], Finding] = {}
    for row in connection.execute(_ORPHANS, values).mappings().all():
        finding = _orphan_finding(row, look, orphan)
        if finding is not None:
            # Several webhooks about one unknown payment are one case.
            about = finding.case.subject if finding.case else finding.subject
            found.setdefault((finding.merchant_account, about), finding)
    return list(found.values())


def is_still_orphan(connection: Connection, guid: UUID) -> bool:
    """Tell whether a webhook waits for its payment, and lock its work; False if a worker has it."""
    return connection.execute(_STILL_ORPHAN, {"guid": guid}).first() is not None


def _orphan_finding(
    row: RowMapping, look: Look, orphan: Callable[[UUID], Orphan]
) -> Finding | None:
    told = orphan(row["guid"]) if row["is_missing"] else None
    if told is None or told.can_be_kept:
        return _look_again(row, look) if row["due"] <= look.quiet_since else None
    case = Case(
        kind=MISSING_IN_LEDGER,
        merchant_account=row["merchant_account"],
        subject=row["awaits"],
        payment_id=None,
        amount=told.amount or NO_AMOUNT,
    )
    why = f"no payment {row['awaits']} came"
    return _finding(row, rule="S4", action=Action.ESCALATE, why=why, look=look, case=case)


def _look_again(row: RowMapping, look: Look) -> Finding:
    why = f"its payment {row['awaits']} was not here"
    return _finding(row, rule="S4", action=Action.PROCESS, why=why, look=look)


def _finding(
    row: RowMapping, *, rule: str, action: Action, why: str, look: Look, case: Case | None = None
) -> Finding:
    return Finding(
        rule=rule,
        merchant_account=row["merchant_account"],
        subject=str(row["guid"]),
        guid=row["guid"],
        state=row["event_code"],
        since=row["due"] if row["is_again"] else row["received_at"],
        action=action,
        why=why,
        next_look=look.as_of + QUIET if action is Action.PROCESS else None,
        case=case,
    )
