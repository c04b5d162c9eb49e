"""From a verified webhook to the fact that it states, and to the payment that it is about."""

import pytest

from app.domain.facts import Fact, FactKind
from app.errors import UnclearNotification
from tests.support.builders import PSP_REFERENCE, a_fact, an_item, later, unsigned_webhook
from webhooks.meanings import (
    MEANINGS,
    About,
    fact_of,
    own_reference,
    payment_reference,
    stub_reference,
)
from webhooks.notifications import Notification, parse

EVENT_CODES_WITH_FACTS = [code for code, meaning in MEANINGS.items() if meaning.on_success]


def read(event_code: str = "AUTHORISATION", **fields: object) -> Notification:
    [notification] = parse(unsigned_webhook(an_item(event_code) | fields))
    return notification


def said(notification: Notification) -> Fact | None:
    meaning = MEANINGS[notification.event_code]
    return fact_of(notification, meaning, occurred_at=later(5), first_told_at=later(5))


def reversal(
    action: str | None, success: str = "true", event_code: str = "CANCEL_OR_REFUND"
) -> Notification:
    additional = {} if action is None else {"modification.action": action}
    return read(event_code, additionalData=additional, success=success)


def test_fact_carries_the_reference_and_the_amount_of_its_webhook_and_the_date_it_is_given() -> (
    None
):
    assert said(read()) == a_fact(FactKind.AUTHORISED, occurred_at=later(5))


@pytest.mark.parametrize(
    ("event_code", "date"), [("AUTHORISATION", 1), ("CANCELLATION", 1), ("CAPTURE", 5)]
)
def test_what_happens_once_has_the_date_when_it_was_first_told(event_code: str, date: int) -> None:
    notification = read(event_code)

    fact = fact_of(notification, MEANINGS[event_code], occurred_at=later(5), first_told_at=later(1))

    assert fact is not None
    assert fact.occurred_at == later(date)


@pytest.mark.parametrize("event_code", EVENT_CODES_WITH_FACTS)
@pytest.mark.parametrize("success", ["true", "false"])
def test_every_row_states_its_fact(event_code: str, success: str) -> None:
    meaning = MEANINGS[event_code]

    fact = said(read(event_code, success=success))

    expected = meaning.on_success if success == "true" else meaning.on_failure
    assert (fact.kind if fact else None) is expected


@pytest.mark.parametrize("event_code", sorted(MEANINGS.keys() - EVENT_CODES_WITH_FACTS))
def test_code_without_effect_on_money_states_nothing(event_code: str) -> None:
    assert said(read(event_code)) is None


REVERSALS = ["CANCEL_OR_REFUND", "REVERSAL"]


@pytest.mark.parametrize("event_code", REVERSALS)
@pytest.mark.parametrize(
    ("action", "success", "kind"),
    [
        ("cancel", "true", FactKind.CANCELLED),
        ("cancelled", "true", FactKind.CANCELLED),
        ("refund", "true", FactKind.REFUNDED),
        ("refunded", "true", FactKind.REFUNDED),
        ("Refund", "true", FactKind.REFUNDED),
        ("cancel", "false", FactKind.CANCEL_REFUSED),
        ("refund", "false", FactKind.REFUND_REFUSED),
        # without an action, all facts together decide what it did
        (None, "true", FactKind.UNSPECIFIED_REVERSAL),
        ("", "true", FactKind.UNSPECIFIED_REVERSAL),
        (None, "false", FactKind.UNSPECIFIED_REVERSAL_REFUSED),
    ],
)
def test_reversal_did_what_its_action_says(
    event_code: str, action: str | None, success: str, kind: FactKind
) -> None:
    fact = said(reversal(action, success, event_code))

    assert fact is not None
    assert fact.kind is kind


@pytest.mark.parametrize("success", ["true", "false"])
def test_refund_that_was_cancelled_moves_no_money(success: str) -> None:
    assert said(reversal("refund cancelled", success, "REVERSAL")) is None


def test_action_that_is_not_known_is_not_guessed_at() -> None:
    with pytest.raises(UnclearNotification, match="something new"):
        said(reversal("something new"))


@pytest.mark.parametrize(
    "reason",
    [
        "Transaction Recaptured",
        "Transaction Auto-recaptured",
        "Transaction Auto-Recaptured",
        "transaction recaptured",
        "TRANSACTION AUTO RECAPTURED",
    ],
)
def test_recapture_is_known_by_its_reason(reason: str) -> None:
    fact = said(read("CAPTURE", reason=reason))

    assert fact is not None
    assert fact.is_repeat


@pytest.mark.parametrize("reason", ["", "null", None, "Insufficient balance on payment"])
def test_any_other_reason_is_no_recapture(reason: str | None) -> None:
    fact = said(read("CAPTURE", reason=reason))

    assert fact is not None
    assert not fact.is_repeat


@pytest.mark.parametrize("event_code", EVENT_CODES_WITH_FACTS)
@pytest.mark.parametrize("amount", [None, {}, {"value": -1, "currency": "EUR"}], ids=str)
def test_code_about_money_without_an_amount_is_an_error(event_code: str, amount: object) -> None:
    with pytest.raises(UnclearNotification, match="no amount"):
        said(read(event_code, amount=amount))


@pytest.mark.parametrize("amount", [-1, "-1", "1.5", 1.5, 10**15 + 1, "", None, True])
def test_amount_that_is_no_amount_of_money_is_an_error(amount: object) -> None:
    with pytest.raises(UnclearNotification, match="no amount"):
        said(read("REFUND", amount={"value": amount, "currency": "EUR"}))


@pytest.mark.parametrize("event_code", ["CANCELLATION", "TECHNICAL_CANCEL", "CAPTURE"])
@pytest.mark.parametrize("amount", [0, "0", "12500"])
def test_amount_may_be_zero_and_may_be_text(event_code: str, amount: object) -> None:
    fact = said(read(event_code, amount={"value": amount, "currency": "EUR"}))

    assert fact is not None
    assert fact.amount_minor == int(str(amount))


def test_fact_of_a_modification_names_its_payment() -> None:
    fact = said(read("CAPTURE", originalReference="PAY1"))

    assert fact is not None
    assert (fact.reference, fact.payment_reference) == (PSP_REFERENCE, "PAY1")


@pytest.mark.parametrize(
    "event_code", ["AUTHORISATION", "EXPIRE", "CHARGEBACK", "TECHNICAL_CANCEL"]
)
def test_fact_names_no_payment_beside_its_own_reference(event_code: str) -> None:
    fact = said(read(event_code))

    assert fact is not None
    assert fact.payment_reference is None


def test_code_without_effect_on_money_needs_no_amount() -> None:
    assert said(read("NOTIFICATION_OF_FRAUD", amount=None)) is None


def test_modification_names_its_payment_by_the_original_reference() -> None:
    notification = read("CAPTURE", originalReference="PAY1")

    assert payment_reference(notification, About.MODIFICATION) == "PAY1"


@pytest.mark.parametrize("about", [About.MODIFICATION, About.VOID])
def test_modification_without_an_original_reference_names_no_payment(about: About) -> None:
    assert payment_reference(read("CAPTURE"), about) is None


def test_payments_own_webhook_names_it_by_its_psp_reference() -> None:
    notification = read(originalReference="IGNORED")

    assert payment_reference(notification, About.PAYMENT) == PSP_REFERENCE


@pytest.mark.parametrize("about", [About.DISPUTE, About.LIFETIME])
@pytest.mark.parametrize(("original", "named"), [("PAY1", "PAY1"), ("", PSP_REFERENCE)])
def test_dispute_and_lifetime_name_their_payment_by_either_reference(
    about: About, original: str, named: str
) -> None:
    notification = read("CHARGEBACK", originalReference=original)

    assert payment_reference(notification, about) == named


@pytest.mark.parametrize(("original", "kept"), [("PAY1", "PAY1"), ("", None)])
def test_no_payment_is_made_of_a_disputes_own_reference(original: str, kept: str | None) -> None:
    notification = read("CHARGEBACK", originalReference=original)

    assert stub_reference(notification, About.DISPUTE) == kept


@pytest.mark.parametrize(("event_code", "kept"), [("CAPTURE", "PAY1"), ("EXPIRE", "PAY1")])
def test_any_other_webhook_makes_a_payment_of_the_reference_that_it_names(
    event_code: str, kept: str
) -> None:
    notification = read(event_code, originalReference="PAY1")

    assert stub_reference(notification, MEANINGS[event_code].about) == kept


def test_report_names_no_payment() -> None:
    assert payment_reference(read("REPORT_AVAILABLE"), About.NOTHING) is None


@pytest.mark.parametrize("about", About)
def test_our_reference_counts_only_where_it_is_the_payments(about: About) -> None:
    is_ours = about in {About.PAYMENT, About.LIFETIME, About.VOID}

    assert own_reference(read(), about) == ("ORDER-1001" if is_ours else None)


def test_empty_reference_of_ours_is_none() -> None:
    assert own_reference(read(merchantReference=""), About.PAYMENT) is None
