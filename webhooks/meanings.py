"""Which webhook means which fact, as one table (psp-webhooks.md sections 5 and 7)."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from app.domain.facts import KEPT, Fact, FactKind, Kept
from app.errors import UnclearNotification
from webhooks.notifications import Notification


class About(StrEnum):
    """Whose reference a webhook's ``pspReference`` is, which says how it finds its payment."""

    PAYMENT = "payment"  #: the payment's own
    LIFETIME = "lifetime"  #: the payment's own, unless originalReference is
    MODIFICATION = "modification"  #: the modification's; originalReference is the payment's
    VOID = "void"  #: a modification that may know the payment by our reference only
    DISPUTE = "dispute"  #: the dispute's; originalReference may be missing
    NOTHING = "nothing"  #: no payment: a report, a token, an order


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an event code says when ``success`` is true, and when it is false.

    ``success`` is true on every code that announces bad news: it says that the event did happen.
    """

    about: About
    on_success: FactKind | None = None
    on_failure: FactKind | None = None


_P, _L, _M, _V, _D, _N = (
    About.PAYMENT,
    About.LIFETIME,
    About.MODIFICATION,
    About.VOID,
    About.DISPUTE,
    About.NOTHING,
)
_K = FactKind

MEANINGS = MappingProxyType(
    {
        # event code                        about  success                 failure
        "AUTHORISATION":             Meaning(_P, _K.AUTHORISED,          _K.REFUSED),
        "AUTHORISATION_ADJUSTMENT":  Meaning(_M, _K.ADJUSTED),
        "PENDING":                   Meaning(_L, _K.PENDING),
        "OFFER_CLOSED":              Meaning(_L, _K.OFFER_CLOSED),
        "EXPIRE":                    Meaning(_L, _K.EXPIRED),
        "CANCELLATION":              Meaning(_M, _K.CANCELLED,           _K.CANCEL_REFUSED),
        "TECHNICAL_CANCEL":          Meaning(_V, _K.CANCELLED,           _K.CANCEL_REFUSED),
        "CAPTURE":                   Meaning(_M, _K.CAPTURED,            _K.CAPTURE_REFUSED),
        "CAPTURE_FAILED":            Meaning(_M, _K.CAPTURE_FAILED),
        "REFUND":                    Meaning(_M, _K.REFUNDED,            _K.REFUND_REFUSED),
        "REFUND_FAILED":             Meaning(_M, _K.REFUND_FAILED),
        "REFUNDED_REVERSED":         Meaning(_M, _K.REFUND_REVERSED),
        "CHARGEBACK":                Meaning(_D, _K.CHARGED_BACK),
        "CHARGEBACK_REVERSED":       Meaning(_D, _K.CHARGEBACK_REVERSED),
        "SECOND_CHARGEBACK":         Meaning(_D, _K.CHARGED_BACK_AGAIN),
        # what these two did is said by modification.action: see fact_of
        "CANCEL_OR_REFUND":          Meaning(_M, _K.UNSPECIFIED_REVERSAL,
                                                 _K.UNSPECIFIED_REVERSAL_REFUSED),
        "REVERSAL":                  Meaning(_M, _K.UNSPECIFIED_REVERSAL,
                                                 _K.UNSPECIFIED_REVERSAL_REFUSED),
        # on the payment's timeline, without effect on money
        "MANUAL_REVIEW_ACCEPT":              Meaning(_M),
        "MANUAL_REVIEW_REJECT":              Meaning(_M),
        "POSTPONED_REFUND":                  Meaning(_M),
        "PAIDOUT_REVERSED":                  Meaning(_M),
        "VOID_PENDING_REFUND":               Meaning(_M),
        "HANDLED_EXTERNALLY":                Meaning(_L),
        "REQUEST_FOR_INFORMATION":           Meaning(_D),
        "NOTIFICATION_OF_FRAUD":             Meaning(_D),
        "NOTIFICATION_OF_CHARGEBACK":        Meaning(_D),
        "INFORMATION_SUPPLIED":              Meaning(_D),
        "ISSUER_COMMENTS":                   Meaning(_D),
        "ISSUER_RESPONSE_TIMEFRAME_EXPIRED": Meaning(_D),
        "DISPUTE_DEFENSE_PERIOD_ENDED":      Meaning(_D),
        "PREARBITRATION_OPEN":               Meaning(_D),
        "PREARBITRATION_ACCEPTED":           Meaning(_D),
        "PREARBITRATION_DECLINED":           Meaning(_D),
        "PREARBITRATION_ISSUER_WITHDRAWN":   Meaning(_D),
        "PREARBITRATION_WON":                Meaning(_D),
        "PREARBITRATION_LOST":               Meaning(_D),
        "SCHEME_ARBITRATION":                Meaning(_D),
        "SCHEME_ARBITRATION_WON":            Meaning(_D),
        "SCHEME_ARBITRATION_LOST":           Meaning(_D),
        # about no payment of ours
        "REPORT_AVAILABLE":          Meaning(_N),
        "REFUND_WITH_DATA":          Meaning(_N),
        "PAYOUT_THIRDPARTY":         Meaning(_N),
        "PAYOUT_DECLINE":            Meaning(_N),
        "PAYOUT_EXPIRE":             Meaning(_N),
        "RECURRING_CONTRACT":        Meaning(_N),
        "ORDER_OPENED":              Meaning(_N),
        "ORDER_CLOSED":              Meaning(_N),
        "PROCESS_RETRY":             Meaning(_N),
        "DONATION":                  Meaning(_N),
        "AUTHENTICATION":            Meaning(_N),
        "AUTORESCUE":                Meaning(_N),
        "AUTORESCUE_NEXT_ATTEMPT":   Meaning(_N),
        "CANCEL_AUTORESCUE":         Meaning(_N),
    }
)  # fmt: skip
"""A code without a row is parked: the PSP adds codes at any time, and never has to retry one."""

#: What a reversal did, by its modification.action: the meaning that it shares with the plain code.
#: The action is unsigned and may be missing; CANCEL_OR_REFUND says it otherwise than REVERSAL.
_REVERSALS = frozenset({"CANCEL_OR_REFUND", "REVERSAL"})
_DID = MappingProxyType(
    {
        "cancel": MEANINGS["CANCELLATION"],
        "cancelled": MEANINGS["CANCELLATION"],
        "refund": MEANINGS["REFUND"],
        "refunded": MEANINGS["REFUND"],
        "refund cancelled": MEANINGS["VOID_PENDING_REFUND"],
    }
)

#: The PSP repeated a capture that had failed (psp-webhooks.md section 5, CAPTURE).
_RECAPTURED = re.compile(r"transaction (auto[- ]?)?recaptured", re.IGNORECASE)


def fact_of(
    notification: Notification,
    meaning: Meaning,
    *,
    occurred_at: datetime,
    first_told_at: datetime,
) -> Fact | None:
    """Return what a verified webhook says about money; None if its code says nothing about it.

    The webhook alone decides, never what is known already: what a reversal without an action did
    follows from all facts, whenever they come (``FactKind.UNSPECIFIED_REVERSAL``).

    Args:
        notification: The webhook.
        meaning: The row of its event code.
        occurred_at: The latest event date of the webhook's deliveries, or when we received it if it
            told none.
        first_told_at: The earliest one: the date of what happens once.

    Raises:
        UnclearNotification: Its code is about money, and it carries no amount, or an action that
            this release does not know.
    """
    if notification.event_code in _REVERSALS:
        meaning = _what_the_reversal_did(notification) or meaning
    kind = meaning.on_success if notification.success else meaning.on_failure
    if kind is None:
        return None
    if notification.amount is None:
        raise UnclearNotification("it carries no amount of money")
    named = payment_reference(notification, meaning.about)
    happened_once = KEPT[kind] is Kept.FIRST
    return Fact(
        kind=kind,
        reference=notification.psp_reference,
        amount_minor=notification.amount.amount_minor,
        occurred_at=first_told_at if happened_once else occurred_at,
        is_repeat=_RECAPTURED.search(notification.reason) is not None,
        payment_reference=None if named == notification.psp_reference else named,
    )


def payment_reference(notification: Notification, about: About) -> str | None:
    """Return the payment's PSP reference as the webhook tells it."""
    match about:
        case About.PAYMENT:
            return notification.psp_reference
        case About.LIFETIME | About.DISPUTE:
            return notification.original_reference or notification.psp_reference
        case About.MODIFICATION | About.VOID:
            return notification.original_reference or None
        case About.NOTHING:
            return None


def stub_reference(notification: Notification, about: About) -> str | None:
    """Return the reference under which a payment that we did not start is kept.

    Returns:
        None if the webhook does not say for certain which payment it is about: the reference of a
        dispute that names no other is tried as a payment's, but no payment is made of it.
    """
    if about is About.DISPUTE:
        return notification.original_reference or None
    return payment_reference(notification, about)


def own_reference(notification: Notification, about: About) -> str | None:
    """Return our reference of the payment, unless the webhook carries a modification's."""
    if about in {About.PAYMENT, About.LIFETIME, About.VOID}:
        return notification.merchant_reference or None
    return None


def _what_the_reversal_did(notification: Notification) -> Meaning | None:
    """Believe the item's action; None if it has none."""
    action = notification.additional("modification.action").strip().lower()
    if not action:
        return None
    try:
        return _DID[action]
    except KeyError:
        raise UnclearNotification(f"its modification.action is {action!r}") from None
