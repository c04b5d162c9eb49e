"""The simulator's booking service, fraud check and settings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from simulator.application import create_application
from simulator.database import Database
from simulator.delivery import Delivery
from simulator.settings import Settings
from simulator.world import World

SECRETS = {
    "SIMULATOR_API_KEY": "the-api-key",
    "SIMULATOR_HMAC_KEY": "AB" * 32,
    "SIMULATOR_MERCHANT_ACCOUNT": "M",
}


def settings_from(environ: dict[str, str], home: Path) -> Settings:
    return Settings.from_environment(
        environ, port=0, smtp_port=0, home=home, webhook_url="http://127.0.0.1:9/"
    )


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    settings = settings_from(SECRETS, tmp_path)
    database = Database(tmp_path / "simulator.sqlite3")
    delivery = Delivery(database, settings)
    yield create_application(World(settings, database, delivery)).test_client()
    delivery.stop()
    database.close()


def headers(key: str = "key") -> dict[str, str]:
    return {"Authorization": "Bearer the-api-key", "Idempotency-Key": key}


def a_booking(reference: str) -> dict[str, Any]:
    amount = {"value": 1000, "currency": "EUR"}
    return {"reference": reference, "payment_id": "payment-1", "amount": amount}


def the_booking(client: FlaskClient) -> dict[str, Any]:
    [booking] = client.get("/books").get_json()["bookings"]
    return dict(booking)


def confirm(client: FlaskClient, reference: str, key: str = "key") -> tuple[int, Any]:
    answer = client.post("/bookings/confirmations", json=a_booking(reference), headers=headers(key))
    return answer.status_code, answer.get_json()


def cancel(client: FlaskClient, reference: str) -> tuple[int, Any]:
    answer = client.post("/bookings/cancellations", json=a_booking(reference), headers=headers("c"))
    return answer.status_code, answer.get_json()


def test_a_booking_is_confirmed_once_per_key(client: FlaskClient) -> None:
    first, second = confirm(client, "BK-1"), confirm(client, "BK-1")

    assert first == second
    assert (first[0], first[1]["status"], first[1]["reference"]) == (200, "confirmed", "BK-1")
    assert the_booking(client)["confirmations"] == 1


def test_fail_is_refused(client: FlaskClient) -> None:
    status, body = confirm(client, "FAIL-1")

    assert (status, body["status"]) == (409, "refused")


def test_flaky_fails_twice_per_key_and_then_confirms(client: FlaskClient) -> None:
    assert [confirm(client, "FLAKY-1")[0] for _ in range(4)] == [503, 503, 200, 200]
    assert the_booking(client)["confirmations"] == 1


def test_hang_is_held_without_an_answer_and_can_be_cancelled(client: FlaskClient) -> None:
    answer = client.post("/bookings/confirmations", json=a_booking("HANG-1"), headers=headers())

    assert answer.status_code == 504  # what the server would hold instead of sending
    assert cancel(client, "HANG-1") == (200, {"status": "cancelled"})


def test_cancelling_twice_or_something_unknown_changes_nothing_more(client: FlaskClient) -> None:
    confirm(client, "BK-1")

    assert [cancel(client, "BK-1")[0] for _ in range(2)] == [200, 200]
    assert (the_booking(client)["status"], the_booking(client)["cancellations"]) == ("cancelled", 1)
    assert cancel(client, "NEVER-SEEN")[0] == 200


def test_a_cancelled_booking_is_not_confirmed_any_more(client: FlaskClient) -> None:
    cancel(client, "BK-1")

    assert confirm(client, "BK-1")[0] == 409


@pytest.mark.parametrize(
    ("email", "decision"), [("s@example.com", "accept"), ("fraud@example.com", "refuse")]
)
def test_the_fraud_check_looks_at_the_address(
    client: FlaskClient, email: str, decision: str
) -> None:
    question = {
        "payment_id": "payment-1",
        "merchant_account": "M",
        "merchant_reference": "ORDER-1",
        "amount": {"value": 1000, "currency": "EUR"},
        "shopper": {"email": email},
    }

    answer = client.post("/fraud/checks", json=question, headers=headers())

    assert answer.get_json()["decision"] == decision


@pytest.mark.parametrize(
    "path", ["/bookings/confirmations", "/bookings/cancellations", "/fraud/checks", "/webhooks"]
)
def test_the_other_services_want_a_bearer_token(client: FlaskClient, path: str) -> None:
    assert client.post(path, json={}).status_code == 401


def test_all_problems_of_the_settings_are_told_at_once(tmp_path: Path) -> None:
    environ = {"SIMULATOR_HMAC_KEY": "xyz", "SIMULATOR_SPEEDUP": "0"}

    with pytest.raises(ValueError, match=r"API_KEY.*MERCHANT_ACCOUNT.*hexadecimal.*SPEEDUP"):
        settings_from(environ, tmp_path)


def test_secrets_stay_out_of_the_settings_text(tmp_path: Path) -> None:
    assert "the-api-key" not in repr(settings_from(SECRETS, tmp_path))
