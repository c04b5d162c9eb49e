"""The body of start-payment: read whole, or refused by the name of each bad field."""

import json
from collections.abc import Mapping

import pytest
from flask import Flask, Request, request

from app.domain.money import AMOUNT_MINOR_MAX
from app.domain.payment import CaptureMode
from app.errors import (
    CardNumberRefused,
    CountersignError,
    InvalidFields,
    MalformedRequest,
    UnsupportedContentType,
)
from app.http.schemas import StartPaymentBody, read_body
from tests.support.builders import DETAILS, a_start_body

FLASK = Flask(__name__)
ABSENT = object()


def read(body: bytes, content_type: str = "application/json") -> StartPaymentBody:
    with FLASK.test_request_context(
        "/payments", method="POST", data=body, content_type=content_type
    ):
        asked: Request = request
        model, _plain = read_body(asked, StartPaymentBody)
    return model


def with_field(path: str, value: object) -> Mapping[str, object]:
    """An ordinary body with one field, named by its dotted path, changed or left out."""
    body: dict[str, object] = json.loads(json.dumps(a_start_body()))
    target, *names = body, *path.split(".")
    for name in names[:-1]:
        inner = target[name]
        assert isinstance(inner, dict)
        target = inner
    if value is ABSENT:
        del target[names[-1]]
    else:
        target[names[-1]] = value
    return body


def problems_of(body: object) -> Mapping[str, str]:
    with pytest.raises(InvalidFields) as refusal:
        read(json.dumps(body).encode())
    return refusal.value.problems


def test_ordinary_body_is_read_with_its_defaults() -> None:
    model = read(json.dumps(a_start_body()).encode())

    assert (model.amount.value, model.amount.currency) == (12500, "EUR")
    assert model.capture is CaptureMode.MANUAL
    assert model.details() == DETAILS


@pytest.mark.parametrize("mode", CaptureMode)
def test_capture_is_one_of_its_modes(mode: CaptureMode) -> None:
    assert read(json.dumps(a_start_body(capture=mode)).encode()).capture is mode


def test_token_goes_with_the_details() -> None:
    body = with_field("payment_method.token", "tok_1")

    assert read(json.dumps(body).encode()).details()["payment_method"]["token"] == "tok_1"


def test_space_around_a_reference_is_dropped() -> None:
    body = a_start_body(merchant_reference="  ORDER-1 ")

    assert read(json.dumps(body).encode()).merchant_reference == "ORDER-1"


@pytest.mark.parametrize(
    "path",
    [
        "merchant_reference",
        "amount",
        "amount.value",
        "amount.currency",
        "payment_method",
        "shopper",
        "shopper.email",
        "booking",
        "booking.reference",
    ],
)
def test_missing_field_is_named_by_its_path(path: str) -> None:
    assert list(problems_of(with_field(path, ABSENT))) == [path]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("merchant_reference", ""),
        ("merchant_reference", "   "),
        ("merchant_reference", 1001),
        ("merchant_reference", None),
        ("merchant_reference", "x" * 81),
        ("merchant_reference", "OR\nDER"),
        ("merchant_reference", "OR\x00DER"),
        ("merchant_reference", "OR\ud800DER"),
        ("amount", 12500),
        ("amount", []),
        ("amount.value", True),
        ("amount.value", 125.0),
        ("amount.value", 125.5),
        ("amount.value", "12500"),
        ("amount.value", 0),
        ("amount.value", -1),
        ("amount.value", AMOUNT_MINOR_MAX + 1),
        ("amount.value", None),
        ("amount.currency", "eur"),
        ("amount.currency", "EURO"),
        ("amount.currency", "EUR\n"),
        ("amount.currency", ""),
        ("amount.currency", 978),
        ("amount.unknown", 1),
        ("capture", "later"),
        ("capture", None),
        ("capture", True),
        ("payment_method.holder_name", "S\x07Hopper"),
        ("payment_method.holder_name", "x" * 121),
        ("payment_method.number", "token"),
        ("payment_method.type", 1),
        ("shopper.email", "nobody"),
        ("shopper.email", "@example.com"),
        ("shopper.email", "a@b@c"),
        ("shopper.email", "a b@example.com"),
        ("shopper.email", "a@example.com\r\nBcc: b@example.com"),
        ("shopper.email", "ä@example.com"),
        ("shopper.email", "x" * 250 + "@example.com"),
        ("booking.reference", ""),
        ("booking.reference", "BK\t1"),
        ("unknown", 1),
    ],
)
def test_bad_value_is_named_by_its_path(path: str, value: object) -> None:
    assert list(problems_of(with_field(path, value))) == [path]


def test_every_bad_field_is_named_at_once() -> None:
    body = {**with_field("amount.value", 0), "shopper": {}, "extra": 1}

    assert set(problems_of(body)) == {"amount.value", "shopper.email", "extra"}


def test_problem_never_holds_the_value() -> None:
    assert "s3cret" not in str(problems_of(with_field("amount.currency", "s3cret")))


@pytest.mark.parametrize("body", [[], "text", 1, None])
def test_body_that_is_no_object_is_named_as_the_body(body: object) -> None:
    assert list(problems_of(body)) == ["body"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read(body)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_body_must_be_sent_as_json(content_type: str) -> None:
    with pytest.raises(UnsupportedContentType):
        read(b"{}", content_type)


def test_card_number_is_refused_before_any_field_is_read() -> None:
    with pytest.raises(CardNumberRefused):
        read(b'{"number": "4111 1111 1111 1111"}')


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_amount_that_is_no_number_is_refused(constant: bytes) -> None:
    body = json.dumps(a_start_body()).encode().replace(b"12500", constant)

    with pytest.raises(CountersignError):
        read(body)
