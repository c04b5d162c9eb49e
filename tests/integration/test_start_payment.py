"""POST /payments and its Idempotency-Key (F1, F2, F3, F5, F6, F35)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.builders import a_start, a_start_body, an_item
from tests.support.service import Service, at_once


@pytest.fixture
def token(service: Service) -> str:
    return service.api_key()


def post(
    service: Service,
    token: str,
    body: dict[str, object] | None = None,
    *,
    key: str = "key-1",
    **headers: str,
) -> TestResponse:
    client = service.client.application.test_client()
    sent = {"Authorization": f"Bearer {token}", "Idempotency-Key": key, **headers}
    return client.post("/payments", json=body or a_start_body(), headers=sent)


def answer_of(response: TestResponse) -> dict[str, Any]:
    assert isinstance(response.json, dict)
    return response.json


def lose_the_answer(service: Service, token: str) -> None:
    """Leave what a request leaves that dies between its commit and its answer."""
    post(service, token)
    service.execute(
        "UPDATE idempotency_keys SET answer_status = NULL, answer_body = NULL,"
        " lease_until = :until",
        until=service.clock.at + timedelta(seconds=11),
    )
    service.settle()


@contextmanager
def a_worker(service: Service) -> Iterator[None]:
    """Drain and run in a thread, and deliver the authorisation, while the block runs."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.wait(0.01):
            service.settle()

    service.outside.psp.before_answer = lambda: service.deliver(an_item())
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def test_a_payment_is_accepted_with_its_location(service: Service, token: str) -> None:
    response = post(service, token)

    payment = answer_of(response)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/payments/{payment['id']}"
    assert "Idempotency-Replayed" not in response.headers
    assert payment["state"] == "fraud_check"
    assert payment["amount"] == {"value": 12500, "currency": "EUR"}
    assert payment["created_at"] == "2026-11-20T09:00:00.000000Z"


def test_the_same_request_again_gets_the_same_answer(service: Service, token: str) -> None:
    first = post(service, token)
    service.settle()
    again = post(service, token)

    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert service.count("payments") == 1


def test_the_same_body_in_another_spelling_is_the_same_request(
    service: Service, token: str
) -> None:
    post(service, token)

    again = post(service, token, dict(reversed(a_start_body().items())))

    assert again.headers["Idempotency-Replayed"] == "true"


def test_requests_at_once_under_one_key_start_one_payment(service: Service, token: str) -> None:
    responses = at_once([lambda: post(service, token)] * 10)

    assert {response.status_code for response in responses} <= {202, 409}
    assert len({answer_of(r)["id"] for r in responses if r.status_code == 202}) == 1
    assert service.count("payments") == service.count("saga_instances") == 1


def test_waiting_requests_at_once_under_one_key_start_one_payment(
    service: Service, token: str
) -> None:
    with a_worker(service):
        responses = at_once([lambda: post(service, token, Prefer="wait=10")] * 4)

    assert {response.status_code for response in responses} <= {201, 409}
    assert service.count("payments") == 1
    assert service.outside.psp.asked("authorise") == 1


def test_another_body_under_the_same_key_is_refused_and_noted(service: Service, token: str) -> None:
    payment_id = answer_of(post(service, token))["id"]

    response = post(service, token, a_start_body(amount={"value": 1, "currency": "EUR"}))

    assert response.status_code == 422
    assert answer_of(response)["code"] == "idempotency_key_reused"
    assert service.events(payment_id, "noted") == [{"note": "idempotency_key_reused"}]
    assert service.count("payments") == 1


def test_the_same_key_of_another_account_is_another_key(service: Service, token: str) -> None:
    service.container.accounts.add("OtherECOM", [])
    other = service.api_key(account="OtherECOM")

    responses = [post(service, token), post(service, other)]

    assert [response.status_code for response in responses] == [202, 202]
    assert service.count("payments") == 2


def test_a_key_in_flight_is_a_conflict_with_a_time_to_come_back(
    service: Service, token: str
) -> None:
    lose_the_answer(service, token)

    response = post(service, token, Prefer="wait=1")

    assert response.status_code == 409
    assert answer_of(response)["code"] == "idempotency_key_in_flight"
    assert int(response.headers["Retry-After"]) > 0


def test_the_key_of_a_dead_request_is_free_when_its_lease_ends(
    service: Service, token: str
) -> None:
    lose_the_answer(service, token)
    service.receive(an_item())
    service.advance(60)

    response = post(service, token, Prefer="wait=1")

    assert response.status_code == 201
    assert answer_of(response)["state"] == "fin"
    assert service.count("payments") == 1


def test_the_answer_that_finished_a_dead_request_is_the_one_that_is_kept(
    service: Service, token: str
) -> None:
    lose_the_answer(service, token)
    service.receive(an_item())
    service.advance(60)
    first = post(service, token, Prefer="wait=1")

    again = post(service, token)

    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_retry_that_does_not_wait_finishes_a_dead_request_for_good(
    service: Service, token: str
) -> None:
    lose_the_answer(service, token)
    service.advance(60)
    first = post(service, token)
    service.receive(an_item())

    again = post(service, token)

    assert (again.status_code, again.data) == (202, first.data)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_request_that_waits_is_answered_when_the_payment_rests(
    service: Service, token: str
) -> None:
    with a_worker(service):
        response = post(service, token, Prefer="wait=30")

    assert response.status_code == 201
    assert answer_of(response)["state"] == "fin"


def test_a_request_that_waits_in_vain_is_accepted(service: Service, token: str) -> None:
    response = post(service, token, Prefer="respond-async, wait=1")

    assert response.status_code == 202
    assert answer_of(response)["state"] == "fraud_check"


def test_a_request_that_waited_is_replayed_as_it_was_answered(service: Service, token: str) -> None:
    with a_worker(service):
        first = post(service, token, Prefer="wait=30")
    again = post(service, token, Prefer="wait=30")

    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_taken_merchant_reference_is_a_conflict_and_frees_the_key(
    service: Service, token: str
) -> None:
    post(service, token)
    taken = post(service, token, key="key-2")

    other = post(service, token, a_start_body(merchant_reference="ORDER-2"), key="key-2")

    assert (taken.status_code, other.status_code) == (409, 202)
    assert answer_of(taken)["code"] == "merchant_reference_taken"


def test_a_refused_start_leaves_nothing(service: Service, token: str) -> None:
    service.start(a_start(key="another", merchant_reference="ORDER-1001"))
    post(service, token)

    assert service.count("idempotency_keys") == service.count("payments") == 1
