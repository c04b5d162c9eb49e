"""`Prefer: wait`: who may wait, what they are told, and what a retry meets meanwhile (F2, F5, F39).

How a process looks for all of them at once is in test_waiters.py.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest
from werkzeug.test import TestResponse

from tests.support.builders import a_start_body
from tests.support.outages import postgres_outage
from tests.support.service import Service, poll

#: Long enough to take the store away meanwhile.
WAIT_SECONDS = 4


@pytest.fixture
def token(service: Service) -> str:
    return service.api_key()


@pytest.fixture
def one_waiter(service: Service) -> Iterator[Service]:
    """A web process with room for one waiter."""
    other = service.restarted(web_waiters=1)
    yield other
    other.container.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def post(service: Service, token: str, prefer: str, reference: str = "ORDER-1") -> TestResponse:
    """Start a payment under its reference as the key, from a client of the thread's own."""
    return service.client.application.test_client().post(
        "/payments",
        json=a_start_body(merchant_reference=reference),
        headers={
            "Authorization": f"Bearer {token}",
            "Idempotency-Key": reference,
            "Prefer": prefer,
        },
    )


def await_started(service: Service) -> None:
    poll(lambda: service.count("payments") == 1)


def test_a_waiter_beyond_the_bound_is_answered_at_once(
    service: Service, one_waiter: Service, token: str, pool: ThreadPoolExecutor
) -> None:
    waiting = pool.submit(post, one_waiter, token, "wait=30")
    await_started(service)
    beyond = post(one_waiter, token, "wait=30", "ORDER-2")
    is_still_waiting = not waiting.done()
    service.execute("UPDATE payments SET state = 'declined'")

    assert is_still_waiting
    assert beyond.status_code == HTTPStatus.ACCEPTED
    assert "Preference-Applied" not in beyond.headers
    assert waiting.result(30).status_code == HTTPStatus.CREATED
    assert waiting.result(30).headers["Preference-Applied"] == "wait=30"


@pytest.mark.parametrize("preference", ['wait="1"', "WAIT=1", "respond-async, wait=1", "wait = 1"])
def test_every_spelling_of_the_preference_is_understood(
    service: Service, token: str, preference: str
) -> None:
    answer = post(service, token, preference)

    assert answer.headers["Preference-Applied"] == "wait=1"


def test_a_wait_that_is_over_is_accepted_as_the_payment_is_by_then(
    service: Service, token: str, pool: ThreadPoolExecutor
) -> None:
    waiting = pool.submit(post, service, token, "wait=1")
    await_started(service)
    service.execute("UPDATE payments SET state = 'preauth'")

    answer = waiting.result(30)

    assert answer.status_code == HTTPStatus.ACCEPTED
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.json is not None
    assert answer.json["state"] == "preauth"


def test_the_same_request_during_the_wait_is_a_conflict_and_afterwards_a_replay(
    service: Service, token: str, pool: ThreadPoolExecutor
) -> None:
    waiting = pool.submit(post, service, token, "wait=30")
    await_started(service)
    meanwhile = [post(service, token, "wait=30"), post(service, token, "respond-async")]
    service.execute("UPDATE payments SET state = 'declined'")
    first = waiting.result(30)
    afterwards = post(service, token, "wait=30")

    assert [answer.status_code for answer in meanwhile] == [HTTPStatus.CONFLICT] * 2
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in meanwhile)
    assert first.status_code == HTTPStatus.CREATED
    assert (afterwards.status_code, afterwards.data) == (HTTPStatus.CREATED, first.data)
    assert afterwards.headers["Idempotency-Replayed"] == "true"


def test_a_store_that_goes_away_in_mid_wait_costs_no_answer_and_the_key_is_free_later(
    service: Service, token: str, database_url: str, pool: ThreadPoolExecutor
) -> None:
    waiting = pool.submit(post, service, token, f"wait={WAIT_SECONDS}")
    await_started(service)
    with postgres_outage(database_url):
        answer = waiting.result(30)
    meanwhile = post(service, token, "wait=1")
    service.advance(60)
    service.execute("UPDATE payments SET state = 'declined'")
    afterwards = post(service, token, "wait=1")

    assert answer.status_code == HTTPStatus.ACCEPTED
    assert answer.json is not None
    assert answer.json["state"] == "fraud_check"
    assert meanwhile.status_code == HTTPStatus.CONFLICT
    assert afterwards.status_code == HTTPStatus.CREATED
    assert afterwards.json is not None
    assert afterwards.json["id"] == answer.json["id"]
    assert service.count("payments") == 1
