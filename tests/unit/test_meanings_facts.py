"""From a verified webhook to the fact that it states, and to the payment that it is about."""

import pytest

from app.domain.funds import Fact, FactKind, Funds
from app.errors import UnclearNotification
from tests.support.builders import PSP_REFERENCE, a_fact, an_item, later, unsigned_webhook
from webhooks.meanings import MEANINGS, About, fact_of, own_reference, payment_reference
from webhooks.notifications import Notification, parse

CAPTURED = Funds.of([a_fact(), a_fact(FactKind.CAPTURED, reference="CAP1")])
HELD = Funds.of([a_fact()])

EVENT_CODES_WITH_FACTS = [code for code, meaning in MEANINGS.items() if meaning.on_success]


def read(event_code: str = "AUTHORISATION", **fields: object) -> Notification:
    [notification] = parse(unsigned_webhook(an_item(event_code) | fields))
    return notification


def said(notification: Notification, funds: Funds | None = None) -> Fact | None:
    meaning = MEANINGS[notification.event_code]
    return fact_of(notification, meaning, funds, occurred_at=later(5))


def reversal(
    action: str | None, success: str = "true", event_code: str = "CANCEL_OR_REFUND"
) -> Notification:
    additional = {} if action is None else {"modification.action": action}
    return read(event_code, additionalData=additional, success=success)


def test_fact_carries_the_reference_and_the_amount_of_its_webhook_and_the_date_it_is_given() -> (
    None
):
    assert said(read()) == a_fact(FactKind.AUTHORISED, occurred_at=later(5))


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


@pytest.mark.parametrize(
    ("action", "funds", "kind"),
    [
        ("cancel", HELD, FactKind.CANCELLED),
        ("cancel", CAPTURED, FactKind.CANCELLED),
        ("refund", HELD, FactKind.REFUNDED),
        ("refund", CAPTURED, FactKind.REFUNDED),
        ("refund", None, FactKind.REFUNDED),
        # without an action, our own books decide
        (None, HELD, FactKind.CANCELLED),
        (None, CAPTURED, FactKind.REFUNDED),
        (None, None, FactKind.CANCELLED),
    ],
)
def test_reversal_did_what_its_action_says(
    action: str | None, funds: Funds | None, kind: FactKind
) -> None:
    fact = said(reversal(action), funds)

    assert fact is not None
    assert fact.kind is kind


@pytest.mark.parametrize(
    ("action", "funds", "kind"),
    [
        ("cancel", HELD, FactKind.CANCEL_REFUSED),
        ("refund", CAPTURED, FactKind.REFUND_REFUSED),
        (None, HELD, FactKind.CANCEL_REFUSED),
        (None, CAPTURED, FactKind.REFUND_REFUSED),
    ],
)
def test_refused_reversal_did_nothing(action: str | None, funds: Funds, kind: FactKind) -> None:
    fact = said(reversal(action, success="false"), funds)

    assert fact is not None
    assert fact.kind is kind


@pytest.mark.parametrize(
    ("action", "funds", "kind"),
    [
        ("cancelled", HELD, FactKind.CANCELLED),
        ("cancelled", CAPTURED, FactKind.CANCELLED),
        ("refunded", CAPTURED, FactKind.REFUNDED),
        ("refunded", None, FactKind.REFUNDED),
    ],
)
def test_newer_reversal_says_it_in_the_past_tense(
    action: str, funds: Funds | None, kind: FactKind
) -> None:
    fact = said(reversal(action, event_code="REVERSAL"), funds)

    assert fact is not None
    assert fact.kind is kind


def test_refund_that_was_cancelled_moves_no_money() -> None:
    assert said(reversal("refund cancelled", event_code="REVERSAL"), CAPTURED) is None


def test_action_that_is_not_known_is_not_guessed_at() -> None:
    with pytest.raises(UnclearNotification, match="something new"):
        said(reversal("something new"), CAPTURED)


@pytest.mark.parametrize(
    "reason", ["Transaction Recaptured", "Transaction Auto-recaptured", "transaction recaptured"]
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


@pytest.mark.parametrize(("original", "named"), [("PAY1", "PAY1"), ("", PSP_REFERENCE)])
def test_dispute_names_its_payment_by_either_reference(original: str, named: str) -> None:
    notification = read("CHARGEBACK", originalReference=original)

    assert payment_reference(notification, About.DISPUTE) == named


def test_report_names_no_payment() -> None:
    assert payment_reference(read("REPORT_AVAILABLE"), About.NOTHING) is None


@pytest.mark.parametrize("about", About)
def test_our_reference_counts_only_where_it_is_the_payments(about: About) -> None:
    is_ours = about in {About.PAYMENT, About.VOID}

    assert own_reference(read(), about) == ("ORDER-1001" if is_ours else None)


def test_empty_reference_of_ours_is_none() -> None:
    assert own_reference(read(merchantReference=""), About.PAYMENT) is None
