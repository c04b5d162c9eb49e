"""Bodies of POST /payments that are refused, each with the field that is wrong."""

import json

import pytest
from werkzeug.test import TestResponse

from tests.support.builders import a_start_body
from tests.support.service import Service


def post_bytes(
    service: Service, data: bytes, content_type: str = "application/json"
) -> TestResponse:
    headers = {"Authorization": f"Bearer {service.api_key()}", "Idempotency-Key": "key-1"}
    return service.client.post("/payments", data=data, headers=headers, content_type=content_type)


def post(service: Service, **body: object) -> TestResponse:
    return post_bytes(service, json.dumps(a_start_body(**body)).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_malformed(service: Service, data: bytes) -> None:
    response = post_bytes(service, data)

    assert response.status_code == 400
    assert response.json is not None
    assert response.json["code"] == "malformed_request"


def test_a_body_that_is_not_sent_as_json_is_refused(service: Service) -> None:
    response = post_bytes(service, b"a=b", "application/x-www-form-urlencoded")

    assert response.status_code == 415


@pytest.mark.parametrize("data", [b"[]", b"null", b"1", b'"text"'])
def test_json_that_is_no_object_is_refused(service: Service, data: bytes) -> None:
    assert post_bytes(service, data).status_code == 422


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("amount.value", {"amount": {"value": 0, "currency": "EUR"}}),
        ("amount.value", {"amount": {"value": -1, "currency": "EUR"}}),
        ("amount.value", {"amount": {"value": 1.5, "currency": "EUR"}}),
        ("amount.value", {"amount": {"value": "100", "currency": "EUR"}}),
        ("amount.value", {"amount": {"value": True, "currency": "EUR"}}),
        ("amount.value", {"amount": {"value": 10**15 + 1, "currency": "EUR"}}),
        ("amount.currency", {"amount": {"value": 1, "currency": "eur"}}),
        ("amount.currency", {"amount": {"value": 1, "currency": "EURO"}}),
        ("amount.currency", {"amount": {"value": 1, "currency": "EUR\n"}}),
        ("merchant_reference", {"merchant_reference": ""}),
        ("merchant_reference", {"merchant_reference": " "}),
        ("merchant_reference", {"merchant_reference": "x" * 81}),
        ("merchant_reference", {"merchant_reference": "a\x00b"}),
        ("merchant_reference", {"merchant_reference": "a\ud800b"}),
        ("merchant_reference", {"merchant_reference": 7}),
        ("capture", {"capture": "later"}),
        ("shopper.email", {"shopper": {"email": "nobody"}}),
        ("shopper.email", {"shopper": {"email": "a@b\r\nBcc: c@d"}}),
        ("shopper", {"shopper": None}),
        ("booking.reference", {"booking": {"reference": "BK\n1"}}),
        ("colour", {"colour": "blue"}),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(
    service: Service, field: str, body: dict[str, object]
) -> None:
    response = post(service, **body)

    assert response.status_code == 422
    assert response.json is not None
    assert response.json["code"] == "invalid_fields"
    assert [error["field"] for error in response.json["errors"]] == [field]
    assert service.count("payments") == service.count("idempotency_keys") == 0


def test_every_wrong_field_is_named_at_once(service: Service) -> None:
    response = post(service, merchant_reference="", capture="later", booking={})

    assert response.json is not None
    fields = {error["field"] for error in response.json["errors"]}
    assert fields == {"merchant_reference", "capture", "booking.reference"}


def test_a_failed_request_does_not_use_up_its_key(service: Service) -> None:
    post(service, merchant_reference="")

    assert post(service).status_code == 202
