"""Every event code that the PSP documents has a row, and the row says the right thing."""

import pytest

from app.domain.facts import FactKind
from webhooks.meanings import MEANINGS, About

K, A = FactKind, About

#: psp-webhooks.md section 5, in its order.
STANDARD = [
    "AUTHORISATION",
    "AUTHORISATION_ADJUSTMENT",
    "CANCELLATION",
    "TECHNICAL_CANCEL",
    "CANCEL_OR_REFUND",
    "CAPTURE",
    "CAPTURE_FAILED",
    "REFUND",
    "REFUND_FAILED",
    "REFUNDED_REVERSED",
    "REFUND_WITH_DATA",
    "VOID_PENDING_REFUND",
    "EXPIRE",
    "ORDER_OPENED",
    "ORDER_CLOSED",
    "REPORT_AVAILABLE",
    "PAIDOUT_REVERSED",
    "HANDLED_EXTERNALLY",
    "PENDING",
    "PROCESS_RETRY",
    "DONATION",
    "AUTHENTICATION",
    "AUTORESCUE_NEXT_ATTEMPT",
    "REVERSAL",
]
OPTIONAL = [
    "OFFER_CLOSED",
    "MANUAL_REVIEW_ACCEPT",
    "MANUAL_REVIEW_REJECT",
    "POSTPONED_REFUND",
    "RECURRING_CONTRACT",
    "AUTORESCUE",
    "CANCEL_AUTORESCUE",
]
DISPUTES = [
    "REQUEST_FOR_INFORMATION",
    "NOTIFICATION_OF_FRAUD",
    "NOTIFICATION_OF_CHARGEBACK",
    "CHARGEBACK",
    "INFORMATION_SUPPLIED",
    "ISSUER_COMMENTS",
    "CHARGEBACK_REVERSED",
    "PREARBITRATION_OPEN",
    "PREARBITRATION_ACCEPTED",
    "PREARBITRATION_DECLINED",
    "PREARBITRATION_ISSUER_WITHDRAWN",
    "PREARBITRATION_WON",
    "PREARBITRATION_LOST",
    "SECOND_CHARGEBACK",
    "DISPUTE_DEFENSE_PERIOD_ENDED",
    "ISSUER_RESPONSE_TIMEFRAME_EXPIRED",
    "SCHEME_ARBITRATION",
    "SCHEME_ARBITRATION_WON",
    "SCHEME_ARBITRATION_LOST",
]
PAYOUT = ["PAYOUT_THIRDPARTY", "PAYOUT_DECLINE", "PAYOUT_EXPIRE"]

#: psp-webhooks.md section 7: what moves money, whose reference it carries, and what it says.
MONEY = [
    # event code                 about           success                   failure
    ("AUTHORISATION",            A.PAYMENT,      K.AUTHORISED,             K.REFUSED),
    ("AUTHORISATION_ADJUSTMENT", A.MODIFICATION, K.ADJUSTED,               None),
    ("PENDING",                  A.LIFETIME,     K.PENDING,                None),
    ("OFFER_CLOSED",             A.LIFETIME,     K.OFFER_CLOSED,           None),
    ("EXPIRE",                   A.LIFETIME,     K.EXPIRED,                None),
    ("CANCELLATION",             A.MODIFICATION, K.CANCELLED,              K.CANCEL_REFUSED),
    ("TECHNICAL_CANCEL",         A.VOID,         K.CANCELLED,              K.CANCEL_REFUSED),
    ("CAPTURE",                  A.MODIFICATION, K.CAPTURED,               K.CAPTURE_REFUSED),
    ("CAPTURE_FAILED",           A.MODIFICATION, K.CAPTURE_FAILED,         None),
    ("REFUND",                   A.MODIFICATION, K.REFUNDED,               K.REFUND_REFUSED),
    ("REFUND_FAILED",            A.MODIFICATION, K.REFUND_FAILED,          None),
    ("REFUNDED_REVERSED",        A.MODIFICATION, K.REFUND_REVERSED,        None),
    ("CHARGEBACK",               A.DISPUTE,      K.CHARGED_BACK,           None),
    ("CHARGEBACK_REVERSED",      A.DISPUTE,      K.CHARGEBACK_REVERSED,    None),
    ("SECOND_CHARGEBACK",        A.DISPUTE,      K.CHARGED_BACK_AGAIN,     None),
    ("CANCEL_OR_REFUND",         A.MODIFICATION, K.UNSPECIFIED_REVERSAL,
                                                 K.UNSPECIFIED_REVERSAL_REFUSED),
    ("REVERSAL",                 A.MODIFICATION, K.UNSPECIFIED_REVERSAL,
                                                 K.UNSPECIFIED_REVERSAL_REFUSED),
]  # fmt: skip

WITHOUT_PAYMENT = [
    "REPORT_AVAILABLE",
    "RECURRING_CONTRACT",
    "ORDER_OPENED",
    "ORDER_CLOSED",
    "PROCESS_RETRY",
    "DONATION",
    "AUTHENTICATION",
    "AUTORESCUE",
    "AUTORESCUE_NEXT_ATTEMPT",
    "CANCEL_AUTORESCUE",
    "REFUND_WITH_DATA",
    *PAYOUT,
]

#: On the payment's timeline, without effect on its money.
NOTED = [
    ("MANUAL_REVIEW_ACCEPT", A.MODIFICATION),
    ("MANUAL_REVIEW_REJECT", A.MODIFICATION),
    ("POSTPONED_REFUND", A.MODIFICATION),
    ("PAIDOUT_REVERSED", A.MODIFICATION),
    ("VOID_PENDING_REFUND", A.MODIFICATION),
    ("HANDLED_EXTERNALLY", A.LIFETIME),
]


@pytest.mark.parametrize("event_code", STANDARD + OPTIONAL + DISPUTES + PAYOUT)
def test_every_documented_event_code_has_a_row(event_code: str) -> None:
    assert event_code in MEANINGS


@pytest.mark.parametrize("event_code", MEANINGS)
def test_every_row_is_a_documented_event_code(event_code: str) -> None:
    assert event_code in STANDARD + OPTIONAL + DISPUTES + PAYOUT


@pytest.mark.parametrize(("event_code", "about", "success", "failure"), MONEY)
def test_row_says_what_the_lifecycle_says(
    event_code: str, about: About, success: FactKind, failure: FactKind | None
) -> None:
    meaning = MEANINGS[event_code]

    assert meaning.about is about
    assert meaning.on_success is success
    assert meaning.on_failure is failure


@pytest.mark.parametrize("event_code", sorted(MEANINGS.keys() - {row[0] for row in MONEY}))
def test_no_other_row_moves_money(event_code: str) -> None:
    meaning = MEANINGS[event_code]

    assert (meaning.on_success, meaning.on_failure) == (None, None)


@pytest.mark.parametrize("event_code", DISPUTES)
def test_every_dispute_code_carries_the_reference_of_the_dispute(event_code: str) -> None:
    assert MEANINGS[event_code].about is A.DISPUTE


@pytest.mark.parametrize(("event_code", "about"), NOTED)
def test_code_that_is_only_noted_finds_its_payment(event_code: str, about: About) -> None:
    assert MEANINGS[event_code].about is about


def test_every_code_belongs_to_one_family() -> None:
    families = [*(row[0] for row in MONEY), *(row[0] for row in NOTED), *WITHOUT_PAYMENT]

    without_money = set(DISPUTES) - {row[0] for row in MONEY}
    assert sorted([*families, *without_money]) == sorted(MEANINGS)


@pytest.mark.parametrize("event_code", WITHOUT_PAYMENT)
def test_code_about_no_payment_of_ours_says_so(event_code: str) -> None:
    assert MEANINGS[event_code].about is A.NOTHING


@pytest.mark.parametrize("kind", FactKind)
def test_every_kind_of_fact_is_said_by_some_code(kind: FactKind) -> None:
    said = {
        fact for meaning in MEANINGS.values() for fact in (meaning.on_success, meaning.on_failure)
    }

    assert kind in said
