"""The GUID of a webhook: one for all deliveries of a fact, another for every other fact."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.builders import an_item, unsigned_webhook
from webhooks.guid import NAMESPACE, guid_of
from webhooks.notifications import Notification, parse

BASE = an_item("CAPTURE", original_reference="8816178914079700")

UNSIGNED = {
    "eventDate": "2026-11-20T11:30:00+01:00",
    "paymentMethod": "mc",
    "reason": "another reason",
    "operations": ["REFUND"],
    "additionalData": {"hmacSignature": "other", "modification.action": "refund"},
    "newUnexpectedAttribute": "new",
}

SIGNED = {
    "pspReference": "8816178914079739",
    "originalReference": "8816178914079701",
    "merchantAccountCode": "CountersignPOS",
    "merchantReference": "ORDER-1002",
    "amount.value": 12501,
    "amount.currency": "USD",
    "eventCode": "CAPTURE_FAILED",
    "success": "false",
}


def read(item: dict[str, object], *, live: str = "false") -> Notification:
    envelope = json.loads(unsigned_webhook(item)) | {"live": live}
    [notification] = parse(json.dumps(envelope).encode())
    return notification


def changed(item: dict[str, object], name: str, value: object) -> dict[str, object]:
    field, _, inner = name.partition(".")
    if not inner:
        return item | {field: value}
    nested = item[field]
    assert isinstance(nested, dict)
    return item | {field: nested | {inner: value}}


def test_guid_is_a_name_based_uuid() -> None:
    assert read(BASE).guid.version == 5


def test_guid_of_a_fixed_webhook_never_changes() -> None:
    values = ("P", "", "A", "R", "1", "EUR", "AUTHORISATION", "true")

    guid = guid_of(live="false", signed_values=values, event_code="AUTHORISATION", event_date="")

    assert str(NAMESPACE) == "6f0c1c52-0f0e-5c3a-9d53-2f6a3f1d7c11"
    assert str(guid) == "4d8f8873-4a39-5f7d-ad5b-1eaf68984482"


@pytest.mark.parametrize("name", UNSIGNED)
def test_redelivery_that_differs_in_an_unsigned_field_has_the_same_guid(name: str) -> None:
    assert read(changed(BASE, name, UNSIGNED[name])).guid == read(BASE).guid


@pytest.mark.parametrize("sent", [None, "", "absent"])
def test_absent_null_and_empty_are_the_same_fact(sent: str | None) -> None:
    item = an_item()
    if sent != "absent":
        item["originalReference"] = sent

    assert read(item).guid == read(an_item()).guid


@pytest.mark.parametrize("name", SIGNED)
def test_every_signed_value_makes_another_guid(name: str) -> None:
    assert read(changed(BASE, name, SIGNED[name])).guid != read(BASE).guid


def test_live_and_test_are_different_facts() -> None:
    assert read(BASE, live="true").guid != read(BASE, live="false").guid


def test_regenerated_report_is_told_apart_by_its_date() -> None:
    first = an_item("REPORT_AVAILABLE", event_date="2026-11-20T10:00:00+01:00")
    again = an_item("REPORT_AVAILABLE", event_date="2026-11-20T12:00:00+01:00")

    assert read(first).guid != read(again).guid
    assert read(first).guid == read(dict(first)).guid


def test_colon_in_a_reference_cannot_make_two_webhooks_one() -> None:
    one = read(an_item(merchant_account="A", merchant_reference="B:C"))
    other = read(an_item(merchant_account="A:B", merchant_reference="C"))

    assert ":".join(one.signed_values) == ":".join(other.signed_values)
    assert one.guid != other.guid


#: Few characters, so that neighbouring values shift into each other.
VALUES = st.lists(st.text("A:|", max_size=2), min_size=8, max_size=8)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(one=VALUES, other=VALUES, event_code=st.sampled_from(["CAPTURE", "REFUND"]))
def test_different_values_never_share_a_guid(
    one: list[str], other: list[str], event_code: str
) -> None:
    assume(one != other)

    first, second = (
        guid_of(live="false", signed_values=values, event_code=event_code, event_date="")
        for values in (one, other)
    )

    assert first != second
