"""The simulator's Checkout API: books, idempotency and triggers. Nothing is delivered here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from simulator import clock, outbox
from simulator.application import create_application
from simulator.database import Database
from simulator.delivery import Delivery
from simulator.settings import Settings
from simulator.world import World

API_KEY = "the-api-key"
HELD = 504  # what the server would hold instead of sending
EUR_10 = {"value": 1000, "currency": "EUR"}


class Shop:
    """A merchant that calls the PSP, and looks into its books."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = create_application(world).test_client()

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> TestResponse:
        headers = {"X-API-Key": API_KEY} | ({"Idempotency-Key": key} if key else {})
        return self.client.post(path, json={"merchantAccount": "M", **body}, headers=headers)

    def pay(
        self, holder_name: str = "S Hopper", key: str | None = "pay", missing: str = ""
    ) -> TestResponse:
        method = {"type": "scheme", "holderName": holder_name}
        order = {"amount": EUR_10, "reference": "ORDER-1", "returnUrl": "https://shop.example"}
        body = {**order, "paymentMethod": method}
        body.pop(missing, None)
        return self.post("/v72/payments", body, key)

    def modify(
        self, psp_reference: str, operation: str, value: int | None = None, key: str | None = None
    ) -> TestResponse:
        body = {} if value is None else {"amount": {"value": value, "currency": "EUR"}}
        return self.post(f"/v72/payments/{psp_reference}/{operation}", body, key)

    def books(self) -> dict[str, Any]:
        return dict(self.client.get("/books").get_json())

    def payment(self) -> dict[str, Any]:
        [payment] = self.books()["payments"]
        return dict(payment)

    def items(self) -> list[dict[str, Any]]:
        with self.world.database.transaction() as connection:
            rows = connection.execute("SELECT body FROM webhooks ORDER BY id").fetchall()
        envelopes = [json.loads(row["body"]) for row in rows]
        return [each["notificationItems"][0]["NotificationRequestItem"] for each in envelopes]

    def let_time_pass(self, seconds: float) -> None:
        with self.world.database.transaction() as connection:
            outbox.release_due(connection, clock.now() + seconds)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    settings = Settings(
        port=0,
        smtp_port=0,
        home=tmp_path,
        webhook_url="http://127.0.0.1:9/nowhere",
        merchant_account="M",
        api_key=API_KEY,
        hmac_key=b"k" * 32,
    )
    database = Database(tmp_path / "simulator.sqlite3")
    delivery = Delivery(database, settings)
    yield Shop(World(settings, database, delivery))
    delivery.stop()
    database.close()


def test_a_payment_is_authorised_and_its_webhook_is_queued(shop: Shop) -> None:
    answer = shop.pay()

    body = answer.get_json()
    assert (answer.status_code, body["resultCode"]) == (200, "Authorised")
    assert len(body["pspReference"]) == 16
    assert shop.payment()["authorised"] == 1000
    [item] = shop.items()
    assert (item["eventCode"], item["success"]) == ("AUTHORISATION", "true")
    assert item["pspReference"] == body["pspReference"]


def test_a_wrong_api_key_is_refused(shop: Shop) -> None:
    answer = shop.client.post("/v72/payments", json={}, headers={"X-API-Key": "wrong"})

    assert (answer.status_code, answer.get_json()["errorType"]) == (401, "security")


@pytest.mark.parametrize("field", ["amount", "paymentMethod", "reference", "returnUrl"])
def test_a_missing_field_is_named(shop: Shop, field: str) -> None:
    answer = shop.pay(missing=field)

    assert answer.status_code == 422
    assert isinstance(answer.get_json()["errorCode"], str)
    assert f"'{field}'" in answer.get_json()["message"]


def test_the_same_key_gets_the_first_response_and_charges_once(shop: Shop) -> None:
    first, second = shop.pay(), shop.pay()

    assert second.data == first.data
    assert second.headers["Idempotency-Key"] == "pay"
    assert shop.payment()["authorisations"] == 1
    assert len(shop.items()) == 1


def test_a_key_is_shared_by_all_endpoints(shop: Shop) -> None:
    first = shop.pay(key="shared")

    assert shop.modify("ANY", "cancels", key="shared").data == first.data


def test_without_a_key_every_request_counts(shop: Shop) -> None:
    shop.pay(key=None)
    shop.pay(key=None)

    assert len(shop.books()["payments"]) == 2


def test_a_key_in_progress_is_a_transient_error(shop: Shop) -> None:
    with shop.world.keys.hold("pay"):
        answer = shop.pay()

    assert (answer.status_code, answer.get_json()["errorCode"]) == (422, "704")
    assert answer.headers["transient-error"] == "true"
    assert shop.pay().status_code == 200


def test_a_key_longer_than_64_characters_is_refused(shop: Shop) -> None:
    assert shop.pay(key="k" * 65).status_code == 422


def test_a_capture_and_a_refund_move_the_books_once_per_key(shop: Shop) -> None:
    psp_reference = shop.pay().get_json()["pspReference"]

    answers = [shop.modify(psp_reference, "captures", 700, "capture") for _ in range(2)]
    shop.modify(psp_reference, "refunds", 200, "refund")

    assert answers[0].data == answers[1].data
    assert answers[0].status_code == 201
    assert answers[0].get_json()["paymentPspReference"] == psp_reference
    assert (shop.payment()["captured"], shop.payment()["refunded"]) == (700, 200)
    capture = shop.items()[1]
    assert capture["pspReference"] == answers[0].get_json()["pspReference"]
    assert capture["originalReference"] == psp_reference


def test_what_the_books_forbid_is_received_and_refused_by_webhook(shop: Shop) -> None:
    psp_reference = shop.pay().get_json()["pspReference"]

    answer = shop.modify(psp_reference, "refunds", 1)

    assert answer.get_json()["status"] == "received"
    item = shop.items()[-1]
    assert (item["success"], item["reason"]) == ("false", "Insufficient balance on payment")


def test_a_modification_of_an_unknown_payment_is_refused_at_once(shop: Shop) -> None:
    answer = shop.modify("UNKNOWN", "cancels")

    assert (answer.status_code, answer.get_json()["errorCode"]) == (422, "167")


def test_a_reversal_tells_what_it_did(shop: Shop) -> None:
    psp_reference = shop.pay().get_json()["pspReference"]

    shop.modify(psp_reference, "reversals")

    item = shop.items()[-1]
    assert item["eventCode"] == "CANCEL_OR_REFUND"
    assert item["additionalData"]["modification.action"] == "cancel"


def test_a_void_by_reference_names_the_payment_it_found(shop: Shop) -> None:
    psp_reference = shop.pay().get_json()["pspReference"]

    answer = shop.post("/v72/cancels", {"paymentReference": "ORDER-1", "reference": "undo"})

    assert answer.get_json()["paymentReference"] == "ORDER-1"
    item = shop.items()[-1]
    assert (item["eventCode"], item["success"]) == ("TECHNICAL_CANCEL", "true")
    assert (item["originalReference"], item["merchantReference"]) == (psp_reference, "ORDER-1")
    assert shop.payment()["cancelled"] == 1000


def test_a_void_that_comes_first_refuses_the_payment_that_comes_later(shop: Shop) -> None:
    shop.post("/v72/cancels", {"paymentReference": "ORDER-1"})

    answer = shop.pay("FALSE THEN TRUE")

    assert answer.get_json()["resultCode"] == "Refused"
    assert shop.payment()["authorised"] == 0
    assert [(item["eventCode"], item["success"]) for item in shop.items()] == [
        ("TECHNICAL_CANCEL", "true"),
        ("AUTHORISATION", "false"),
    ]


def test_declined_is_refused(shop: Shop) -> None:
    assert shop.pay("DECLINED").get_json()["refusalReason"]
    assert shop.payment()["authorisations"] == 0


def test_lost_webhook_is_never_sent(shop: Shop) -> None:
    shop.pay("LOST WEBHOOK")
    shop.let_time_pass(1e6)

    assert [webhook["state"] for webhook in shop.books()["webhooks"]] == ["lost"]


def test_late_webhook_waits_its_time(shop: Shop) -> None:
    shop.pay("LATE WEBHOOK")

    shop.let_time_pass(19)
    assert shop.books()["webhooks"][0]["state"] == "scheduled"
    shop.let_time_pass(21)
    assert shop.books()["webhooks"][0]["state"] == "waiting"


def test_duplicate_webhook_is_queued_five_times_byte_for_byte(shop: Shop) -> None:
    shop.pay("DUPLICATE WEBHOOK")

    items = shop.items()
    assert len(items) == 5
    assert all(item == items[0] for item in items)


def test_false_then_true_charges_when_the_second_event_comes(shop: Shop) -> None:
    answer = shop.pay("FALSE THEN TRUE")

    before = shop.payment()["authorised"]
    shop.let_time_pass(3)

    assert answer.get_json()["resultCode"] == "Refused"
    assert (before, shop.payment()["authorised"]) == (0, 1000)
    refused, authorised = shop.items()
    assert (refused["success"], authorised["success"]) == ("false", "true")
    assert refused["pspReference"] == authorised["pspReference"]
    assert refused["eventDate"] < authorised["eventDate"]


def test_a_cancel_between_false_and_true_keeps_the_success_from_coming(shop: Shop) -> None:
    psp_reference = shop.pay("FALSE THEN TRUE").get_json()["pspReference"]

    shop.modify(psp_reference, "cancels")
    shop.let_time_pass(3)

    assert shop.payment()["authorised"] == 0
    assert [webhook["state"] for webhook in shop.books()["webhooks"]][1] == "dropped"


def test_psp_timeout_charges_without_an_answer_and_answers_the_replay(shop: Shop) -> None:
    unanswered, replay = shop.pay("PSP TIMEOUT"), shop.pay("PSP TIMEOUT")

    assert unanswered.status_code == HELD
    assert replay.get_json()["resultCode"] == "Authorised"
    assert shop.payment()["authorisations"] == 1


def test_psp_down_fails_three_times_without_effect_and_then_works(shop: Shop) -> None:
    answers = [shop.pay("PSP DOWN").status_code for _ in range(5)]

    assert answers == [503, 503, 503, 200, 200]
    assert shop.payment()["authorisations"] == 1


def test_capture_failed_is_undone_a_second_later_with_the_same_reference(shop: Shop) -> None:
    psp_reference = shop.pay("CAPTURE FAILED").get_json()["pspReference"]

    shop.modify(psp_reference, "captures", 1000)
    before = shop.payment()["captured"]
    shop.let_time_pass(2)

    assert (before, shop.payment()["captured"]) == (1000, 0)
    assert shop.payment()["modifications"][0]["status"] == "failed"
    capture, failure = shop.items()[1:]
    assert (capture["eventCode"], failure["eventCode"]) == ("CAPTURE", "CAPTURE_FAILED")
    assert (capture["success"], failure["success"]) == ("true", "true")
    assert capture["pspReference"] == failure["pspReference"]
    assert capture["eventDate"] < failure["eventDate"]


def test_cancel_failed_refuses_every_way_to_cancel(shop: Shop) -> None:
    psp_reference = shop.pay("CANCEL FAILED").get_json()["pspReference"]

    shop.modify(psp_reference, "cancels")
    shop.modify(psp_reference, "reversals")
    shop.post("/v72/cancels", {"paymentReference": "ORDER-1"})

    assert [item["success"] for item in shop.items()] == ["true", "false", "false", "false"]
    assert shop.payment()["cancelled"] == 0
