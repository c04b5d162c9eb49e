"""A body that is no standard webhook is refused by the name of the field, and in no other way."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import MalformedNotification
from tests.support.builders import an_item, unsigned_webhook
from webhooks.notifications import parse

REQUIRED = ["pspReference", "merchantAccountCode", "eventCode", "success", "eventDate"]
PLAIN = ["pspReference", "originalReference", "eventCode"]
SIGNED_TEXT = [*PLAIN, "merchantAccountCode", "merchantReference", "success"]

HALF_A_CHARACTER = "\ud800"

quick = settings(deadline=None, derandomize=True, max_examples=60)

ANY_TEXT = st.text(st.characters())
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*an_item(), "originalReference"]


def refusal_of(body: bytes) -> str:
    with pytest.raises(MalformedNotification) as refusal:
        parse(body)
    return str(refusal.value)


def an_item_with(name: str, value: object) -> bytes:
    return unsigned_webhook(an_item() | {name: value})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"notificationItems=1", b"\xff\xfe\xfa", b'{"live": NaN}', b"[" * 100_000],
    ids=["empty", "cut", "form", "bytes", "NaN", "deep"],
)
def test_body_that_is_not_json_is_refused(body: bytes) -> None:
    assert refusal_of(body) == "the body is not JSON"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert refusal_of(body) == "the body is not a JSON object"


@pytest.mark.parametrize("items", [None, {}, [], "text", 1])
def test_envelope_without_a_list_of_items_is_refused(items: object) -> None:
    body = json.dumps({"live": "false", "notificationItems": items}).encode()

    assert "notificationItems" in refusal_of(body)


def test_envelope_without_items_is_refused() -> None:
    assert "notificationItems" in refusal_of(b"{}")


@pytest.mark.parametrize("wrapped", [None, "text", [], {}, {"NotificationRequestItem": []}])
def test_item_of_another_form_is_refused_by_its_place(wrapped: object) -> None:
    good = {"NotificationRequestItem": an_item()}
    body = json.dumps({"notificationItems": [good, wrapped]}).encode()

    assert refusal_of(body).startswith("notificationItems[1].NotificationRequestItem")


@pytest.mark.parametrize("name", REQUIRED)
def test_item_without_a_required_field_is_refused_by_its_name(name: str) -> None:
    item = an_item()
    del item[name]

    assert refusal_of(unsigned_webhook(item)) == f"notificationItems[0]: {name} is missing"


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, ""])
def test_empty_required_field_is_a_missing_one(name: str, value: object) -> None:
    assert f"{name} is missing" in refusal_of(an_item_with(name, value))


@pytest.mark.parametrize("name", [*REQUIRED, "originalReference", "merchantReference"])
@pytest.mark.parametrize("value", [[], {}, ["text"], {"value": 1}])
def test_field_that_is_no_plain_value_is_refused_by_its_name(name: str, value: object) -> None:
    assert name in refusal_of(an_item_with(name, value))


@pytest.mark.parametrize("success", ["True", "yes", "1", 1, " true"])
def test_success_that_is_neither_true_nor_false_is_refused(success: object) -> None:
    assert "success" in refusal_of(an_item_with("success", success))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("value", ["A:B", "A B", "A\n", "A/B", "Ä", "A\x1fB"])
def test_signed_field_that_could_move_a_boundary_is_refused(name: str, value: str) -> None:
    assert name in refusal_of(an_item_with(name, value))


@pytest.mark.parametrize("currency", ["EUR:1", "EU R", "EUR\n", ["EUR"]])
def test_currency_that_could_move_a_boundary_is_refused(currency: object) -> None:
    amount = {"value": 1, "currency": currency}

    assert "currency" in refusal_of(an_item_with("amount", amount))


@pytest.mark.parametrize("reference", ["A:B", "A B", r"\:/\/", "Zoë €", "日本"])
def test_merchant_reference_may_hold_anything_printable(reference: str) -> None:
    [notification] = parse(unsigned_webhook(an_item(merchant_reference=reference)))

    assert notification.merchant_reference == reference


@pytest.mark.parametrize("name", SIGNED_TEXT)
@pytest.mark.parametrize("character", ["\x00", HALF_A_CHARACTER], ids=["NUL", "surrogate"])
def test_signed_value_that_cannot_be_stored_is_refused(name: str, character: str) -> None:
    refusal_of(an_item_with(name, f"A{character}B"))


@pytest.mark.parametrize("event_code", ["AUTHORISATION", "REPORT_AVAILABLE"])
@pytest.mark.parametrize("name", FIELDS)
def test_half_a_character_in_any_field_never_breaks_the_reader(event_code: str, name: str) -> None:
    body = unsigned_webhook(an_item(event_code) | {name: HALF_A_CHARACTER})

    with contextlib.suppress(MalformedNotification):
        parse(body)


@quick
@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(MalformedNotification):
        parse(body)


@quick
@given(value=ANY_JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    with contextlib.suppress(MalformedNotification):
        parse(json.dumps(value).encode())


@quick
@given(items=ANY_JSON, wrapped=ANY_JSON)
def test_any_envelope_is_read_or_refused(items: object, wrapped: object) -> None:
    for inner in (items, [items], [{"NotificationRequestItem": wrapped}]):
        with contextlib.suppress(MalformedNotification):
            parse(json.dumps({"live": wrapped, "notificationItems": inner}).encode())


@quick
@given(name=st.sampled_from(FIELDS), value=ANY_JSON)
def test_any_value_in_any_field_is_read_or_refused(name: str, value: object) -> None:
    with contextlib.suppress(MalformedNotification):
        parse(an_item_with(name, value))
