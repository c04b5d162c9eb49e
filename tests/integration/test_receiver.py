"""What the webhook route takes and what it refuses (F17): never a 2xx for what is not on disk."""

from base64 import b64encode

import pytest

from tests.support.builders import (
    ACCOUNT,
    HMAC_KEY,
    OTHER_HMAC_KEY,
    a_webhook,
    an_item,
    signed,
    unsigned_webhook,
)
from tests.support.service import Service


def test_an_authentic_webhook_is_on_disk_and_acknowledged(service: Service) -> None:
    response = service.post_webhook(a_webhook())

    [row] = service.rows("SELECT body, merchant_account FROM webhook_inbox")
    assert (response.status_code, response.text) == (200, "[accepted]")
    assert response.mimetype == "text/plain"
    assert bytes(row["body"]) == a_webhook()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pspReference", "8816178914079739"),
        ("originalReference", "8816178914079737"),
        ("merchantReference", "ORDER-1002"),
        ("eventCode", "CAPTURE"),
        ("success", "false"),
        ("amount", {"value": 12501, "currency": "EUR"}),
        ("amount", {"value": 12500, "currency": "USD"}),
    ],
)
def test_a_changed_signed_value_is_refused(service: Service, field: str, value: object) -> None:
    forged = {**signed(an_item()), field: value}

    response = service.post_webhook(unsigned_webhook(forged))

    assert response.status_code == 401
    assert response.json is not None
    assert response.json["code"] == "invalid_signature"
    assert service.count("webhook_inbox") == 0


@pytest.mark.parametrize("signature", [None, "", "no base64!", "c2hvcnQ=", "ä" * 44, 17])
def test_a_missing_or_broken_signature_is_refused(service: Service, signature: object) -> None:
    forged = {**an_item(), "additionalData": {"hmacSignature": signature}}

    response = service.post_webhook(unsigned_webhook(forged))

    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0


def test_an_unknown_merchant_account_is_refused(service: Service) -> None:
    response = service.post_webhook(a_webhook(an_item(merchant_account="StrangerECOM")))

    assert response.status_code == 401
    assert response.json is not None
    assert response.json["code"] == "unknown_merchant_account"


def test_another_accounts_key_does_not_sign_for_this_one(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])

    response = service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))

    assert response.status_code == 401


def test_a_forged_second_item_behind_a_valid_first_stores_nothing(service: Service) -> None:
    valid = signed(an_item())
    forged = {**signed(an_item("CAPTURE")), "success": "false"}

    response = service.post_webhook(unsigned_webhook(valid, forged))

    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0


def test_an_item_of_an_unknown_account_behind_a_valid_first_stores_nothing(
    service: Service,
) -> None:
    stranger = signed(an_item(merchant_account="StrangerECOM"))

    response = service.post_webhook(unsigned_webhook(signed(an_item()), stranger))

    assert response.status_code == 401
    assert service.count("webhook_inbox") == 0


def test_all_items_of_a_webhook_are_stored_together(service: Service) -> None:
    response = service.post_webhook(a_webhook(an_item(), an_item("CAPTURE"), an_item("REFUND")))

    assert response.status_code == 200
    assert service.count("webhook_inbox") == 3


def test_an_account_without_a_live_key_refuses_every_webhook(service: Service) -> None:
    service.container.accounts.add("KeylessECOM", [])

    response = service.post_webhook(a_webhook(an_item(merchant_account="KeylessECOM")))

    assert response.status_code == 401


def test_both_keys_are_live_while_one_is_rotated(service: Service) -> None:
    service.container.accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)

    statuses = [
        service.post_webhook(a_webhook(key=key)).status_code for key in (HMAC_KEY, OTHER_HMAC_KEY)
    ]

    assert statuses == [200, 200]


def test_an_expired_key_is_refused_while_the_new_one_works(service: Service) -> None:
    accounts = service.container.accounts
    [old] = accounts.keys(ACCOUNT)
    accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)
    accounts.expire_key(ACCOUNT, old.check_value, at=service.clock.now())

    statuses = [
        service.post_webhook(a_webhook(key=key)).status_code for key in (HMAC_KEY, OTHER_HMAC_KEY)
    ]

    assert statuses == [401, 200]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Basic cHNwOnJpZ2h0", 200),
        ("basic cHNwOnJpZ2h0", 200),
        ("Basic cHNwOndyb25n", 401),
        ("Basic not base64", 401),
        ("Bearer cHNwOnJpZ2h0", 401),
        ("", 401),
    ],
)
def test_an_account_with_basic_credentials_wants_them(
    service: Service, authorization: str, status: int
) -> None:
    service.container.accounts.add("BasicECOM", [HMAC_KEY], basic=("psp", "right"))

    response = service.post_webhook(
        a_webhook(an_item(merchant_account="BasicECOM")), Authorization=authorization
    )

    assert response.status_code == status


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_who_can_not_sign_learns_nothing_of_the_password(service: Service, password: str) -> None:
    service.container.accounts.add("BasicECOM", [HMAC_KEY], basic=("psp", "right"))
    authorization = "Basic " + b64encode(f"psp:{password}".encode()).decode()

    response = service.post_webhook(
        unsigned_webhook(an_item(merchant_account="BasicECOM")), Authorization=authorization
    )

    assert response.json is not None
    assert response.json["code"] == "invalid_signature"


@pytest.mark.parametrize("field", ["pspReference", "merchantReference"])
def test_a_value_that_no_index_can_hold_is_malformed(service: Service, field: str) -> None:
    response = service.post_webhook(unsigned_webhook({**signed(an_item()), field: "x" * 16_000}))

    assert response.status_code == 400
