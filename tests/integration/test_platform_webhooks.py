"""Webhooks that are signed as a whole, in a header (F17; psp-webhooks.md section 3)."""

import base64
import hmac
import json
from uuid import UUID

import pytest
from werkzeug.test import TestResponse

from tests.support.builders import (
    ACCOUNT,
    HMAC_KEY,
    OTHER_HMAC_KEY,
    a_webhook,
    an_item,
    unsigned_webhook,
)
from tests.support.service import Service

ROUTE = "/webhooks/adyen/platform"
OTHER = "OtherECOM"

EVENT = json.dumps(
    {
        "createdAt": "2026-11-20T10:00:00+01:00",
        "environment": "test",
        "eventId": "QBQQ9DLNRHHKGK38",
        "type": "recurring.token.created",
        "data": {"merchantAccount": ACCOUNT, "shopperReference": "shopper-1"},
    },
    indent=2,
).encode()


def signature_of(body: bytes, key: bytes = HMAC_KEY) -> str:
    """As the PSP's documentation says, in the standard library's words."""
    return base64.b64encode(hmac.new(key, body, "sha256").digest()).decode()


def post(
    service: Service, body: bytes, signature: str | None = None, **headers: str
) -> TestResponse:
    """Post a body; signed with the account's key unless told otherwise."""
    signed = {"HmacSignature": signature_of(body) if signature is None else signature}
    return service.client.post(ROUTE, data=body, headers=signed | headers)


@pytest.fixture
def other(service: Service) -> str:
    """A second account, with a key of its own."""
    service.container.accounts.add(OTHER, [OTHER_HMAC_KEY])
    return OTHER


def stored_accounts(service: Service) -> list[str]:
    return [row["merchant_account"] for row in service.rows("SELECT * FROM webhook_inbox")]


def test_an_authentic_body_is_on_disk_byte_for_byte_and_acknowledged(service: Service) -> None:
    response = post(service, EVENT)

    [row] = service.rows("SELECT body, scheme, event_code, psp_reference FROM webhook_inbox")
    assert (response.status_code, response.text) == (200, "[accepted]")
    assert response.mimetype == "text/plain"
    assert bytes(row["body"]) == EVENT
    assert (row["scheme"], row["event_code"]) == ("header", "recurring.token.created")
    assert row["psp_reference"] == "QBQQ9DLNRHHKGK38"


def test_the_header_is_found_in_any_case(service: Service) -> None:
    response = service.client.post(
        ROUTE, data=EVENT, headers={"hmacsignature": signature_of(EVENT), "protocol": "HmacSHA256"}
    )

    assert response.status_code == 200


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "no base64!",
        "c2hvcnQ=",
        signature_of(EVENT, OTHER_HMAC_KEY),
        signature_of(EVENT, HMAC_KEY.hex().encode()),
        hmac.new(HMAC_KEY, EVENT, "sha256").hexdigest(),
    ],
)
def test_a_wrong_signature_is_refused_and_stores_nothing(service: Service, signature: str) -> None:
    response = post(service, EVENT, signature)

    assert response.status_code == 401
    assert response.json is not None
    assert response.json["code"] == "invalid_signature"
    assert service.count("webhook_inbox") == 0


def test_a_missing_signature_is_refused_and_stores_nothing(service: Service) -> None:
    response = service.client.post(ROUTE, data=EVENT)

    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0


@pytest.mark.parametrize(
    "altered",
    [
        EVENT.replace(b"shopper-1", b"shopper-2"),
        EVENT + b"\n",
        EVENT.replace(b"  ", b"\t"),
        json.dumps(json.loads(EVENT)).encode(),
    ],
    ids=["a value", "one byte more", "other white space", "serialised again"],
)
def test_a_body_that_differs_in_any_byte_is_refused(service: Service, altered: bytes) -> None:
    response = post(service, altered, signature_of(EVENT))

    assert json.loads(altered).keys() == json.loads(EVENT).keys()
    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b"{}", b'{"type": 7}', b"\xff\xfe"])
def test_the_signature_is_verified_before_anything_is_read(service: Service, body: bytes) -> None:
    statuses = [
        post(service, body).status_code,
        post(service, body, signature_of(body, OTHER_HMAC_KEY)).status_code,
    ]

    assert statuses == [400, 401]
    assert service.count("webhook_inbox") == 0


def test_the_key_that_signs_finds_the_account(service: Service, other: str) -> None:
    of_nobody = json.dumps({"type": "balancePlatform.transfer.created", "data": {}}).encode()

    response = post(service, of_nobody, signature_of(of_nobody, OTHER_HMAC_KEY))

    assert response.status_code == 200
    assert stored_accounts(service) == [other]


def test_a_body_that_names_another_account_belongs_to_the_one_that_signs(
    service: Service, other: str
) -> None:
    response = post(service, EVENT, signature_of(EVENT, OTHER_HMAC_KEY))

    assert response.status_code == 200
    assert stored_accounts(service) == [other]


@pytest.mark.parametrize("named", [ACCOUNT, OTHER])
def test_of_two_accounts_that_share_a_key_the_body_says_which(service: Service, named: str) -> None:
    service.container.accounts.add(OTHER, [HMAC_KEY])
    body = EVENT.replace(ACCOUNT.encode(), named.encode())

    response = post(service, body)

    assert response.status_code == 200
    assert stored_accounts(service) == [named]


def test_an_expired_key_no_longer_signs(service: Service) -> None:
    accounts = service.container.accounts
    [key] = accounts.keys(ACCOUNT)
    accounts.expire_key(ACCOUNT, key.check_value, at=service.clock.now())

    response = post(service, EVENT)

    assert response.status_code == 401


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("Basic cHNwOnJpZ2h0", 200), ("Basic cHNwOndyb25n", 401), ("", 401)],
)
def test_an_account_with_basic_credentials_wants_them_too(
    service: Service, authorization: str, status: int
) -> None:
    service.container.accounts.add("BasicECOM", [OTHER_HMAC_KEY], basic=("psp", "right"))

    response = post(
        service, EVENT, signature_of(EVENT, OTHER_HMAC_KEY), Authorization=authorization
    )

    assert response.status_code == status
    assert service.count("webhook_inbox") == (status == 200)


def test_the_same_body_again_is_the_same_webhook(service: Service) -> None:
    statuses = [post(service, EVENT).status_code for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert service.count("webhook_inbox") == 1
    assert service.count("webhook_redeliveries") == 2


def test_another_body_of_the_same_event_is_another_webhook(service: Service) -> None:
    post(service, EVENT)
    post(service, EVENT + b" ")

    assert service.count("webhook_inbox") == 2


def test_an_event_of_a_family_that_is_not_ours_is_done_and_touches_no_payment(
    service: Service,
) -> None:
    payment_id = service.start()
    before = service.payment(payment_id)

    post(service, EVENT)
    service.drain()

    assert service.work() == []
    assert service.payment(payment_id) == before


def test_an_event_that_is_called_as_a_standard_one_moves_no_money(service: Service) -> None:
    payment_id = service.start()
    body = json.dumps(
        {
            "type": "AUTHORISATION",
            "eventId": "8816178914079738",
            "data": {"merchantAccount": ACCOUNT, "reference": "ORDER-1001"},
        }
    ).encode()

    response = post(service, body)
    service.drain()

    assert response.status_code == 200
    assert service.payment(payment_id).funds.authorised == 0


def started(service: Service) -> UUID:
    payment_id = service.start()
    service.settle()
    return payment_id


def test_a_standard_webhook_that_its_account_signed_by_header_is_applied(service: Service) -> None:
    payment_id = started(service)

    response = post(service, unsigned_webhook(an_item()))
    service.drain()

    assert response.status_code == 200
    assert service.payment(payment_id).funds.authorised == 12500
    assert service.work() == []


def test_a_standard_webhook_of_another_account_is_refused(service: Service, other: str) -> None:
    payment_id = started(service)
    body = unsigned_webhook(an_item(merchant_account=other), an_item())

    response = post(service, body, signature_of(body, OTHER_HMAC_KEY))
    service.drain()

    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0
    assert service.payment(payment_id).funds.authorised == 0


def test_the_header_does_not_stand_in_for_the_signatures_of_items(service: Service) -> None:
    body = unsigned_webhook(an_item())

    response = service.post_webhook(body, HmacSignature=signature_of(body))

    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0


def test_signatures_of_items_do_not_stand_in_for_the_header(service: Service) -> None:
    response = service.client.post(ROUTE, data=a_webhook())

    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0


def test_one_standard_webhook_by_both_routes_is_one_webhook(service: Service) -> None:
    payment_id = started(service)

    service.deliver(an_item())
    post(service, a_webhook())
    service.drain()

    kinds = [data["kind"] for data in service.events(payment_id, "fact_recorded")]
    assert kinds == ["pending", "authorised"]
    assert service.count("webhook_inbox") == 1


@pytest.mark.parametrize("route", [ROUTE, "/webhooks/adyen"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_told_what_is_allowed(service: Service, route: str, method: str) -> None:
    response = service.client.open(route, method=method)

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"


def test_a_body_over_a_mebibyte_is_too_large(service: Service) -> None:
    response = post(service, b" " * (1024 * 1024 + 1))

    assert response.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b'{"eventType": "ACCOUNT_HOLDER_CREATED", "eventDate": "2026-11-20T10:00:00+01:00"}',
        b'{"type": "odd", "data": {"id": "half a character \\ud83d"}}',
        b'{"type": "odd", "data": {"merchantAccount": {}, "id": 7}}',
        b'{"type": "odd", "eventId": "' + b"x" * 16_000 + b'"}',
        b"\xef\xbb\xbf" + EVENT,
    ],
)
def test_an_authentic_event_is_stored_whatever_it_says(service: Service, body: bytes) -> None:
    response = post(service, body)
    service.drain()

    assert response.status_code == 200
    assert (service.count("webhook_inbox"), service.work()) == (1, [])
