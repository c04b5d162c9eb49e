"""Bodies that the webhook route can't read, and odd ones that it must (contract.md section 3)."""

import json

import pytest

from tests.support.builders import a_webhook, an_item, signed, unsigned_webhook
from tests.support.service import Service


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"notificationItems": []}',
        b'{"notificationItems": {}}',
        b'{"notificationItems": [1]}',
        b'{"notificationItems": [{}]}',
        b'{"notificationItems": [{"NotificationRequestItem": []}]}',
        b'{"notificationItems": NaN}',
        b'{"a":' * 20000,
    ],
)
def test_what_is_no_standard_webhook_is_malformed(service: Service, body: bytes) -> None:
    response = service.post_webhook(body)

    assert response.status_code == 400
    assert response.mimetype == "application/problem+json"
    assert response.json is not None
    assert response.json["code"] == "malformed_notification"


@pytest.mark.parametrize(
    "field", ["pspReference", "merchantAccountCode", "eventCode", "success", "eventDate"]
)
def test_a_missing_field_is_named(service: Service, field: str) -> None:
    item = {name: value for name, value in signed(an_item()).items() if name != field}

    response = service.post_webhook(unsigned_webhook(item))

    assert response.status_code == 400
    assert response.json is not None
    assert field in response.json["detail"]


def test_a_body_over_a_mebibyte_is_too_large(service: Service) -> None:
    response = service.post_webhook(b" " * (1024 * 1024 + 1))

    assert response.status_code == 413
    assert response.mimetype == "application/problem+json"


def test_a_body_of_a_mebibyte_is_read(service: Service) -> None:
    body = a_webhook()

    response = service.post_webhook(body + b" " * (1024 * 1024 - len(body)))

    assert response.status_code == 200


@pytest.mark.parametrize(
    "odd",
    [
        "a NUL \x00 inside",
        "half a character \ud800",
        "the six characters \\u0000",
        "\u2028 \u202e \U0001f4b3",
        '"; DROP TABLE webhook_inbox; --',
        "",
    ],
)
@pytest.mark.parametrize("field", ["reason", "paymentMethod", "newUnexpectedAttribute"])
def test_odd_characters_in_unsigned_fields_are_accepted(
    service: Service, field: str, odd: str
) -> None:
    response = service.post_webhook(unsigned_webhook({**signed(an_item()), field: odd}))

    assert response.status_code == 200
    assert service.count("webhook_inbox") == 1


@pytest.mark.parametrize(
    "value", [None, True, 1.5, 10**400, [1, {"deep": []}], {"nested": {"NUL \x00": "\x00"}}]
)
def test_any_json_in_an_unknown_field_is_accepted(service: Service, value: object) -> None:
    response = service.post_webhook(unsigned_webhook({**signed(an_item()), "operations": value}))

    assert response.status_code == 200


def test_the_body_is_kept_byte_for_byte(service: Service) -> None:
    body = json.dumps(json.loads(a_webhook()), indent=3).encode() + b"\r\n "

    service.post_webhook(body)

    [row] = service.rows("SELECT body FROM webhook_inbox")
    assert bytes(row["body"]) == body


def test_an_unknown_event_code_is_acknowledged_and_parked(service: Service) -> None:
    service.deliver(an_item("A_CODE_OF_NEXT_YEAR"))
    service.settle()

    [work] = service.work()
    assert work["state"] == "parked"
    assert "A_CODE_OF_NEXT_YEAR" in work["error"]


@pytest.mark.parametrize(
    "event_date",
    [
        "yesterday",
        "2026-11-20T10:00:00",
        "2026-11-20T10:00:00.123+02:12",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_whatever_the_unsigned_event_date_the_authorisation_counts(
    service: Service, event_date: str
) -> None:
    payment_id = service.start()
    service.settle()

    service.deliver(an_item(event_date=event_date))
    service.drain()

    assert service.payment(payment_id).funds.authorised == 12500


@pytest.mark.parametrize("event_date", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_event_date_beyond_the_calendar_does_not_stop_the_drain(
    service: Service, event_date: str
) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(an_item("REPORT_AVAILABLE", event_date=event_date), an_item())

    service.drain()

    assert service.payment(payment_id).funds.authorised == 12500
