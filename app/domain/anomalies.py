"""Anomalies: what the PSP says about a payment's money and what can't be right.

The money is believed all the same, and a person looks at it: each anomaly is a break, named as in
psp-reports.md. Like the sums, anomalies follow from the set of facts, whatever their order was.
"""

from app.domain.facts import FactKind
from app.domain.funds import Funds
from app.domain.holds import Hold
from app.domain.money import AMOUNT_MINOR_MAX

#: Two authorisations of one payment, under two references of the PSP.
DUPLICATE_PSP = "DUPLICATE_PSP"
#: More went back to the shopper than we were paid: a refund too many, or a chargeback after one.
OVER_REFUNDED = "OVER_REFUNDED"
#: Captured although it was cancelled, or cancelled although it was captured; a capture that failed.
STATUS_MISMATCH = "STATUS_MISMATCH"
#: Money came after the flow had given the payment up.
LATE_SUCCESS = "LATE_SUCCESS"

#: The name of a break, and the amount at stake in minor units.
Anomaly = tuple[str, int]


def anomalies(funds: Funds) -> frozenset[Anomaly]:
    """Return what the funds alone show to be wrong."""
    holds = funds.holds
    found = {
        DUPLICATE_PSP: _authorised_beyond_the_first(holds),
        OVER_REFUNDED: _given_back_beyond_what_came(funds),
        STATUS_MISMATCH: sum(map(_captured_although_cancelled, holds)),
    }
    return frozenset(
        (name, min(amount, AMOUNT_MINOR_MAX)) for name, amount in found.items() if amount > 0
    )


def _authorised_beyond_the_first(holds: list[Hold]) -> int:
    return sum(hold.authorised for hold in holds[1:] if hold.of(FactKind.AUTHORISED))


def _given_back_beyond_what_came(funds: Funds) -> int:
    """Compare what went with what came, as far as we know what came.

    Accounts that capture by themselves are told of no capture: what was authorised stands in.
    """
    if not funds.has(FactKind.CAPTURED, FactKind.AUTHORISED):
        return 0
    came = funds.captured if funds.has(FactKind.CAPTURED) else funds.authorised
    return funds.refunded + funds.charged_back - came


def _captured_although_cancelled(hold: Hold) -> int:
    """A cancellation may release the rest of a partial capture; no capture is whole or later."""
    cancelled_at = min(
        (it.occurred_at for it in hold.releases if it.kind in _CANCELS), default=None
    )
    if cancelled_at is None:
        return 0
    is_cancelled = any(it.kind is FactKind.CANCELLED for it in hold.releases)
    is_whole = is_cancelled and hold.total is not None and hold.captured >= hold.authorised
    is_later = any(it.occurred_at > cancelled_at for it in hold.of(FactKind.CAPTURED))
    return hold.captured if is_whole or is_later else 0


_CANCELS = (FactKind.CANCELLED, FactKind.UNSPECIFIED_REVERSAL)
