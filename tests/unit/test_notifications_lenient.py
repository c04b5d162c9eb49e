"""What the PSP may vary in an authentic webhook is read without complaint."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.domain.money import Money
from app.errors import MalformedNotification
from tests.support.builders import (
    ACCOUNT,
    EUR_125,
    PSP_REFERENCE,
    a_webhook,
    an_item,
    numbered_id,
    unsigned_webhook,
)
from webhooks.notifications import Notification, find, parse
from webhooks.signatures import signing_string


def read(item: dict[str, object], **overrides: object) -> Notification:
    [notification] = parse(unsigned_webhook(item | overrides))
    return notification


def without(name: str) -> Notification:
    item = an_item()
    del item[name]
    return read(item)


def test_ordinary_item_is_read_whole() -> None:
    notification = read(an_item(reason="874574:1935:11/2012"))

    assert notification.merchant_account == ACCOUNT
    assert (notification.event_code, notification.success) == ("AUTHORISATION", True)
    assert (notification.psp_reference, notification.original_reference) == (PSP_REFERENCE, "")
    assert (notification.merchant_reference, notification.amount) == ("ORDER-1001", EUR_125)
    assert notification.event_date == datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    assert notification.reason == "874574:1935:11/2012"
    assert not notification.is_live
    assert notification.signature is None


def test_signed_values_stand_in_signing_order() -> None:
    notification = read(an_item("CAPTURE", original_reference="ORIGINAL", success=False))

    assert notification.signed_values == (
        PSP_REFERENCE,
        "ORIGINAL",
        ACCOUNT,
        "ORDER-1001",
        "12500",
        "EUR",
        "CAPTURE",
        "false",
    )


@pytest.mark.parametrize("sent", [None, ""])
def test_null_and_empty_original_reference_sign_as_empty(sent: str | None) -> None:
    notification = read(an_item(), originalReference=sent)

    assert notification.original_reference == ""
    assert signing_string(notification.signed_values).startswith(f"{PSP_REFERENCE}::".encode())


@pytest.mark.parametrize(("sent", "read_as"), [(True, "true"), (False, "false")])
def test_boolean_success_signs_in_lower_case(*, sent: bool, read_as: str) -> None:
    notification = read(an_item(), success=sent)

    assert notification.success is sent
    assert notification.signed_values[-1] == read_as


def test_amount_as_text_is_read_and_signed_as_sent() -> None:
    notification = read(an_item(), amount={"value": "0", "currency": "EUR"})

    assert notification.amount == Money(0, "EUR")
    assert notification.signed_values[4] == "0"


def test_absent_amount_signs_as_the_published_report_does() -> None:
    item = an_item(
        "REPORT_AVAILABLE",
        psp_reference="test_REPORT_AVAILABLE",
        merchant_account="Magento2Rik",
        merchant_reference="testMerchantRef1",
    )
    del item["amount"]
    [notification] = parse(unsigned_webhook(item))

    assert notification.amount is None
    assert signing_string(notification.signed_values) == (
        b"test_REPORT_AVAILABLE::Magento2Rik:testMerchantRef1:::REPORT_AVAILABLE:true"
    )


@pytest.mark.parametrize(
    "amount",
    [
        None,
        "12500",
        [12500],
        {},
        {"value": 12500},
        {"currency": "EUR"},
        {"value": 125.5, "currency": "EUR"},
        {"value": 1e400, "currency": "EUR"},
        {"value": -1, "currency": "EUR"},
        {"value": True, "currency": "EUR"},
        {"value": 10**16, "currency": "EUR"},
        {"value": 12500, "currency": "eur"},
    ],
    ids=str,
)
def test_amount_that_is_no_money_is_no_amount(amount: object) -> None:
    body = unsigned_webhook(an_item() | {"amount": amount}).replace(b"Infinity", b"1e400")

    [notification] = parse(body)

    assert notification.amount is None


@pytest.mark.parametrize(
    "name", ["merchantReference", "amount", "paymentMethod", "reason", "additionalData"]
)
def test_optional_field_may_be_absent(name: str) -> None:
    assert without(name).psp_reference == PSP_REFERENCE


def test_absent_merchant_reference_signs_as_empty() -> None:
    assert without("merchantReference").signed_values[3] == ""


def test_absent_additional_data_holds_nothing() -> None:
    notification = without("additionalData")

    assert notification.signature is None
    assert notification.additional("modification.action") == ""


@pytest.mark.parametrize("data", [None, "text", [], 7])
def test_additional_data_of_another_form_holds_nothing(data: object) -> None:
    notification = read(an_item(), additionalData=data)

    assert notification.signature is None
    assert notification.additional("modification.action") == ""


def test_unknown_fields_are_kept_and_change_nothing() -> None:
    ordinary = read(an_item())
    newer = read(an_item(), newUnexpectedAttribute={"deeply": ["nested"]})

    assert newer.signed_values == ordinary.signed_values
    assert newer.item["newUnexpectedAttribute"] == {"deeply": ["nested"]}


def test_unknown_event_code_is_read() -> None:
    assert read(an_item("SOMETHING_NEW")).event_code == "SOMETHING_NEW"


@pytest.mark.parametrize(("sent", "is_live"), [("true", True), (True, True), ("false", False)])
def test_live_may_be_text_or_boolean(*, sent: object, is_live: bool) -> None:
    envelope = json.loads(unsigned_webhook(an_item())) | {"live": sent}

    [notification] = parse(json.dumps(envelope).encode())

    assert notification.is_live is is_live


def test_absent_live_is_not_live() -> None:
    envelope = json.loads(unsigned_webhook(an_item()))
    del envelope["live"]

    [notification] = parse(json.dumps(envelope).encode())

    assert not notification.is_live


@pytest.mark.parametrize(
    ("sent", "date"),
    [
        ("2021-07-17T13:42:40+01:00", datetime(2021, 7, 17, 12, 42, 40, tzinfo=UTC)),
        ("2021-07-17T13:42:40.121+02:00", datetime(2021, 7, 17, 11, 42, 40, 121000, tzinfo=UTC)),
        ("2021-07-17T13:42:40Z", datetime(2021, 7, 17, 13, 42, 40, tzinfo=UTC)),
        (
            "2021-07-17T13:42:40+02:12",
            datetime(2021, 7, 17, 13, 42, 40, tzinfo=timezone(timedelta(hours=2, minutes=12))),
        ),
        ("2021-07-17T13:42:40", datetime(2021, 7, 17, 13, 42, 40, tzinfo=UTC)),
        ("soon", None),
    ],
)
def test_event_date_is_read_in_every_form_that_was_seen(sent: str, date: datetime | None) -> None:
    assert read(an_item(event_date=sent)).event_date == date


@pytest.mark.parametrize(
    ("psp_reference", "is_test"),
    [
        ("test_AUTHORISATION_1", True),
        ("TEST_CUSTOM_7914073381342284", True),
        ("testnotification_5", True),
        (PSP_REFERENCE, False),
    ],
)
def test_test_notification_is_known_by_its_reference(psp_reference: str, *, is_test: bool) -> None:
    assert read(an_item(psp_reference=psp_reference)).is_test is is_test


def test_every_item_of_a_webhook_is_read_in_order() -> None:
    body = a_webhook(an_item(psp_reference="FIRST"), an_item(psp_reference="SECOND"))

    assert [notification.psp_reference for notification in parse(body)] == ["FIRST", "SECOND"]


def test_an_item_is_found_again_in_its_body() -> None:
    body = a_webhook(an_item(psp_reference="FIRST"), an_item(psp_reference="SECOND"))
    [_first, second] = parse(body)

    assert find(body, second.guid) == second


def test_an_item_that_the_body_does_not_hold_is_not_found() -> None:
    with pytest.raises(MalformedNotification):
        find(a_webhook(), numbered_id(1))


@pytest.mark.parametrize("unsigned", ['"\\ud800"', "1" + 400 * "0", "1.5", "[[[[]]]]"])
def test_what_only_the_lenient_reader_takes_is_read(unsigned: str) -> None:
    [plain] = parse(a_webhook())
    body = a_webhook().replace(b'"paymentMethod": "visa"', f'"paymentMethod": {unsigned}'.encode())

    [read_so] = parse(body)

    assert read_so.guid == plain.guid
