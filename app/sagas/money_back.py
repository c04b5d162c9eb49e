"""Giving the money back: what to ask of the PSP, decided anew from the evidence at every try.

A payment is one hold, as a rule; it is more when the PSP authorised it more than once. They are
released one after the other, each as a decision of its own.
"""

from collections.abc import Callable
from typing import Protocol

from app.domain.facts import FactKind
from app.domain.holds import Hold
from app.domain.payment import Payment
from app.domain.saga import Direction, Request, StepRecord
from app.sagas.definition import DecidedBy, Records, RetryPolicy, Undo

_TOLD = (
    FactKind.AUTHORISED,
    FactKind.CAPTURED,
    FactKind.REFUSED,
    FactKind.CANCELLED,
    FactKind.EXPIRED,
)
_CAPTURE_TOLD = (FactKind.CAPTURED, FactKind.CAPTURE_REFUSED, FactKind.CAPTURE_FAILED)
_REFUSALS = (
    FactKind.CANCEL_REFUSED,
    FactKind.REFUND_REFUSED,
    FactKind.UNSPECIFIED_REVERSAL_REFUSED,
)


def give_money_back(payment: Payment, records: Records) -> Request:
    """Refund what was captured; reverse what may have been; else release the hold."""
    hold = _next_hold(payment)
    reference = (hold.reference if hold else _untold(payment)) or payment.psp_reference
    about: dict[str, object] = {"psp_reference": reference}
    if hold is not None and hold.kept:
        about |= {"amount_minor": hold.kept, "currency": payment.amount.currency}
        return Request(service_id="psp", operation="refund", data=about)
    if capture_may_have_worked(payment, records.get(("capture", Direction.ACT))):
        # Either works: whichever of the two the payment has come to.
        return Request(service_id="psp", operation="reverse", data=about)
    if reference is None:
        about = {"merchant_reference": payment.merchant_reference}
    return Request(service_id="psp", operation="cancel", data=about)


def capture_may_have_worked(payment: Payment, record: StepRecord | None) -> bool:
    """Tell whether a capture was asked for and the PSP has not said how it ended."""
    is_open = record is not None and record.is_open
    return is_open and not payment.funds.has(*_CAPTURE_TOLD)


def is_money_back(payment: Payment) -> bool:
    """Nothing is held and nothing is kept, and the PSP has said so: silence proves nothing."""
    return payment.funds.has(*_TOLD) and payment.funds.held == 0 and payment.funds.kept == 0


def is_untold(payment: Payment) -> bool:
    """The PSP answered with a reference that none of its statements has named yet.

    A void by our own reference may have come before what that answer tells of.
    """
    return _untold(payment) is not None


def is_refused(payment: Payment, record: StepRecord) -> bool:
    """The PSP refuses this request for good. Another one, under another key, may still work."""
    reference = record.response.get("psp_reference")
    return isinstance(reference, str) and payment.funds.tells_of(reference, *_REFUSALS)


class UndoByMoneyBack(Protocol):
    """Makes the undo of one step."""

    def __call__(
        self,
        *,
        is_needed: Callable[[Payment, StepRecord | None], bool],
        after: frozenset[str] = frozenset(),
    ) -> Undo:
        """Return the undo; for the arguments see ``Undo``."""
        ...


def undo_by_money_back(retry: RetryPolicy) -> UndoByMoneyBack:
    """Return what makes undos that give the money back, tried again as ``retry`` says."""

    def make(
        *,
        is_needed: Callable[[Payment, StepRecord | None], bool],
        after: frozenset[str] = frozenset(),
    ) -> Undo:
        return Undo(
            request=give_money_back,
            decided_by=DecidedBy.WEBHOOK,
            is_needed=is_needed,
            is_done=is_money_back,
            is_refused=is_refused,
            retry=retry,
            is_untold=is_untold,
            after=after,
        )

    return make


def _next_hold(payment: Payment) -> Hold | None:
    """Return the hold to give back next: one that the PSP did not refuse to, if there is one."""
    standing = [hold for hold in payment.funds.holds if hold.held or hold.kept]
    return min(standing, key=lambda hold: _is_refused_for(hold, payment), default=None)


def _untold(payment: Payment) -> str | None:
    told = {hold.reference for hold in payment.funds.holds}
    pending = (fact.reference for fact in payment.funds.facts if fact.kind is FactKind.PENDING)
    return next((reference for reference in pending if reference not in told), None)


def _is_refused_for(hold: Hold, payment: Payment) -> bool:
    return any(
        fact.kind in _REFUSALS and fact.payment_reference in {None, hold.reference}
        for fact in payment.funds.facts
    )
