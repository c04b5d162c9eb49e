"""Cases: breaks that a sweep opens, each once for what it is about."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.domain.money import Money
from reconciliation.sweep.findings import Case

#: We have a payment, and the PSP has never said a word of it.
MISSING_AT_PSP = "MISSING_AT_PSP"

#: Of a case without an amount: ISO 4217 calls "no currency" so.
NO_AMOUNT = Money(0, "XXX")

#: The conflict may be with the same case, open or closed, or with an open break of this kind that
#: was seen otherwise.
_OPEN = text(
    """
    INSERT INTO breaks (break_id, kind, state, merchant_account, payment_id, subject, amount_minor,
                        currency, opened_at)
    VALUES (:break_id, :kind, 'open', :merchant_account, :payment_id, :subject, :amount_minor,
            :currency, :opened_at)
        ON CONFLICT DO NOTHING
    """
)

_STATES = text(
    """
    SELECT subject, state FROM breaks
     WHERE kind = :kind AND merchant_account = :merchant_account AND subject = ANY(:subjects)
    """
)


def open_case(connection: Connection, case: Case, *, break_id: UUID, now: datetime) -> None:
    """Open a case, unless there is or was one about this subject, or one is open like it."""
    connection.execute(
        _OPEN,
        {
            "break_id": break_id,
            "kind": case.kind,
            "merchant_account": case.merchant_account,
            "payment_id": case.payment_id,
            "subject": case.subject,
            "amount_minor": case.amount.amount_minor,
            "currency": case.amount.currency,
            "opened_at": now,
        },
    )


def states_of_cases(
    connection: Connection, kind: str, merchant_account: str, subjects: Sequence[str]
) -> dict[str, str]:
    """Return how the cases of this kind stand, by subject; a subject without one is absent."""
    values = {"kind": kind, "merchant_account": merchant_account, "subjects": list(subjects)}
    return {row.subject: row.state for row in connection.execute(_STATES, values)}
