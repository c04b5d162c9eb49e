"""What POST /payments never lets in: unfit keys, and card numbers, which are nowhere kept."""

import pytest
from werkzeug.test import TestResponse

from tests.support.builders import a_start_body
from tests.support.service import Service

CARD = "4111111111111111"


def post(service: Service, body: dict[str, object], key: str = "key-1") -> TestResponse:
    headers = {"Authorization": f"Bearer {service.api_key()}", "Idempotency-Key": key}
    return service.client.post("/payments", json=body, headers=headers)


@pytest.mark.parametrize("key", ["", "x" * 65, "two words", "\u00e9"])
def test_a_missing_or_unfit_key_is_named(service: Service, key: str) -> None:
    response = post(service, a_start_body(), key)

    assert response.status_code == 400
    assert response.json is not None
    assert response.json["code"] == "idempotency_key_missing"


@pytest.mark.parametrize("key", ["x", "x" * 64, "!~#:;,"])
def test_any_visible_ascii_makes_a_key(service: Service, key: str) -> None:
    assert post(service, a_start_body(), key).status_code == 202


@pytest.mark.parametrize(
    "hiding",
    [
        {"merchant_reference": CARD},
        {"merchant_reference": "order 4111-1111-1111-1111 paid"},
        {"merchant_reference": "4111 1111 1111 1111"},
        {"merchant_reference": "4111\u00a01111\u00a01111\u00a01111"},
        {"merchant_reference": "4111  1111  1111  1111"},
        {"merchant_reference": "4111_1111_1111_1111"},
        {"merchant_reference": "4111/1111/1111/1111"},
        {"merchant_reference": "4111\u20111111\u20111111\u20111111"},
        {"payment_method": {"type": "scheme", "holder_name": f"S Hopper {CARD}"}},
        {"payment_method": {"type": "scheme", "number": int(CARD)}},
        {"booking": {"reference": "BK", "note": [{"deep": CARD}]}},
        {"shopper": {"email": f"{CARD}@example.com"}},
        {CARD: "as a name"},
    ],
)
def test_a_card_number_is_refused_and_nowhere_stored(
    service: Service, hiding: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    response = post(service, a_start_body() | hiding)

    assert response.status_code == 422
    assert response.json is not None
    assert response.json["code"] == "card_number_refused"
    assert CARD not in response.text
    assert CARD not in caplog.text
    tables = service.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) > 10
    for table in tables:
        if table["tablename"] in {"api_keys", "hmac_keys"}:
            continue  # random digits, made before the request
        kept = service.rows(f"SELECT t::text AS line FROM {table['tablename']} t")
        assert not [row for row in kept if CARD in str(row["line"]) or "4111" in str(row["line"])]
