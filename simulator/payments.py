"""One payment's books, and the rules that forbid or change them. No I/O.

A modification is judged at once; the outcome is told by webhook. A payment without money on
hold may still be cancelled: nothing is held afterwards, which is what the caller asked for,
and an authorisation that would have succeeded later no longer does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

from simulator.triggers import behaviour_of

INSUFFICIENT = "Insufficient balance on payment"
CANCEL_REFUSED = "Cancellation refused by the issuer"
CANCELLED = "Transaction has already been cancelled"
CAPTURED = "Transaction has already been captured"
OTHER_CURRENCY = "Currency differs from the payment's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The PSP's books of one payment. Sums are minor units of ``currency``.

    Attributes:
        authorisations: How many times a charge took effect; more than one is a defect.
        is_voided: Cancelled; no later success may touch it.
    """

    psp_reference: str
    merchant_account: str
    merchant_reference: str
    payment_method: str
    holder_name: str
    currency: str
    requested: int
    authorised: int = 0
    captured: int = 0
    cancelled: int = 0
    refunded: int = 0
    authorisations: int = 0
    is_voided: bool = False

    def authorise(self) -> "Payment":
        """Return the payment with the requested amount on hold once more."""
        return replace(
            self,
            authorised=self.authorised + self.requested,
            authorisations=self.authorisations + 1,
        )


@dataclass(frozen=True, slots=True)
class Amount:
    """Minor units and an ISO currency."""

    value: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a modification ended.

    Attributes:
        after: The payment as it stands now; unchanged if refused.
        amount: Minor units that moved, or would have moved.
        reason: Why it was refused; empty if it took effect.
        action: For a reversal, which of "cancel" and "refund" it was.
    """

    after: Payment
    amount: int
    reason: str = ""
    action: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the modification took effect."""
        return not self.reason


def capture(payment: Payment, amount: Amount | None) -> Verdict:
    """Take money that is on hold; several partial captures are allowed."""
    value = payment.requested if amount is None else amount.value
    if payment.is_voided:
        return Verdict(after=payment, amount=value, reason=CANCELLED)
    if amount is not None and amount.currency != payment.currency:
        return Verdict(after=payment, amount=value, reason=OTHER_CURRENCY)
    if payment.captured + value > payment.authorised:
        return Verdict(after=payment, amount=value, reason=INSUFFICIENT)
    return Verdict(after=replace(payment, captured=payment.captured + value), amount=value)


def cancel(payment: Payment, _amount: Amount | None = None) -> Verdict:
    """Release everything on hold; refused once anything is captured."""
    reason = ""
    if behaviour_of(payment.holder_name).is_cancel_refused:
        reason = CANCEL_REFUSED
    elif payment.captured:
        reason = CAPTURED
    elif payment.is_voided:
        reason = CANCELLED
    if reason:
        return Verdict(after=payment, amount=payment.requested, reason=reason, action="cancel")
    after = replace(payment, cancelled=payment.authorised, is_voided=True)
    return Verdict(after=after, amount=payment.requested, action="cancel")


def refund(payment: Payment, amount: Amount | None) -> Verdict:
    """Give captured money back; the sum of refunds never passes what is captured."""
    value = payment.captured if amount is None else amount.value
    if amount is not None and amount.currency != payment.currency:
        return Verdict(after=payment, amount=value, reason=OTHER_CURRENCY, action="refund")
    if payment.refunded + value > payment.captured:
        return Verdict(after=payment, amount=value, reason=INSUFFICIENT, action="refund")
    after = replace(payment, refunded=payment.refunded + value)
    return Verdict(after=after, amount=value, action="refund")


def reverse(payment: Payment, _amount: Amount | None = None) -> Verdict:
    """Cancel what is only on hold, else refund all that is captured and not yet refunded."""
    if behaviour_of(payment.holder_name).is_cancel_refused or not payment.captured:
        return cancel(payment)
    left = payment.captured - payment.refunded
    if not left:
        return Verdict(after=payment, amount=0, reason=INSUFFICIENT, action="refund")
    return refund(payment, Amount(left, payment.currency))


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of modification: its name in the books, its webhook, its rule."""

    kind: str
    event_code: str
    has_amount: bool
    rule: Callable[[Payment, Amount | None], Verdict]


OPERATIONS = MappingProxyType(
    {
        # path                 kind        event code          amount rule
        "captures":  Operation("capture",  "CAPTURE",          True,  capture),
        "cancels":   Operation("cancel",   "CANCELLATION",     False, cancel),
        "refunds":   Operation("refund",   "REFUND",           True,  refund),
        "reversals": Operation("reversal", "CANCEL_OR_REFUND", False, reverse),
    }
)  # fmt: skip

TECHNICAL_CANCEL = Operation("technical_cancel", "TECHNICAL_CANCEL", False, cancel)
