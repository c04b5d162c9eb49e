"""A payment that waits for a person: on whose desk it lies, why, and what to do about it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.domain.facts import FactKind
from app.domain.money import Money
from app.domain.payment import Payment


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A payment on a person's desk, until an operator's action takes it off.

    Attributes:
        owner: Whose desk.
        reason: The event that brought the payment to ``manual_review``.
        step: The step whose undo failed, if one did.
        next_step: What to do, as it looked when the review was opened.
        opened_at: Aware UTC.
    """

    payment_id: UUID
    owner: str
    reason: str
    step: str | None
    next_step: str
    opened_at: datetime

    def as_json(self) -> dict[str, object]:
        """Return what the audit log keeps of it."""
        return {
            "owner": self.owner,
            "reason": self.reason,
            "step": self.step,
            "opened_at": self.opened_at.isoformat(),
        }


def next_step(payment: Payment, step: str | None) -> str:
    """Say what to do next about a payment in ``manual_review``.

    Args:
        payment: As it stands.
        step: The step whose undo failed, if one did.
    """
    if step == "booking_confirmation":
        return "Resume to let it be asked again; or cancel the booking by hand, then skip."
    if step is not None:
        return (
            f"{_money_of(payment)}. Resume to ask for it again; or give it back at the PSP,"
            " then skip."
        )
    return (
        "The capture stayed without an outcome: look at the PSP, then skip if it was captured, or"
        " resume to ask again, or abandon to undo everything."
    )


def _money_of(payment: Payment) -> str:
    """Say where the money is; nothing was told of an authorisation that may stand all the same."""
    currency = payment.amount.currency
    held, kept = Money(payment.funds.held, currency), Money(payment.funds.kept, currency)
    if not payment.funds.has(FactKind.AUTHORISED, FactKind.CAPTURED):
        return f"The PSP has not told whether it holds {payment.amount}: look there"
    return f"The PSP holds {held} and has paid us {kept}"
