"""Requests that wait leave threads for the webhooks that they wait for."""

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from threading import Event

import pytest
from werkzeug.test import TestResponse

from app.bootstrap import Container
from app.domain.access import Role
from app.factory import create_app
from app.settings import Settings
from tests.support.builders import ACCOUNT, a_start_body
from tests.support.service import Service


@pytest.fixture
def one_waiter(service: Service) -> Container:
    """A web process with room for one waiter."""
    settings = service.container.settings
    return Container(
        Settings.model_validate(settings.model_dump() | {"web_waiters": 1}),
        role="test",
        clock=service.container.clock,
    )


def test_a_waiter_beyond_the_bound_is_answered_at_once(
    service: Service, one_waiter: Container
) -> None:
    flask_app = create_app(one_waiter)
    key = service.container.accounts.create_api_key(ACCOUNT, Role.MERCHANT)
    has_begun = Event()

    def start(reference: str, wait: int) -> TestResponse:
        has_begun.set()
        return flask_app.test_client().post(
            "/payments",
            json=a_start_body(merchant_reference=reference),
            headers={
                "Authorization": f"Bearer {key}",
                "Idempotency-Key": reference,
                "Prefer": f"wait={wait}",
            },
        )

    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(start, "ORDER-1", 30)
        assert has_begun.wait(10)
        while not service.rows("SELECT 1 FROM payments"):
            pass
        beyond = start("ORDER-2", 30)
        is_still_waiting = not waiting.done()
        service.execute("UPDATE payments SET state = 'declined'")

        assert is_still_waiting
        assert beyond.status_code == HTTPStatus.ACCEPTED
        assert "Preference-Applied" not in beyond.headers
        assert waiting.result(30).status_code == HTTPStatus.CREATED
        assert waiting.result(30).headers["Preference-Applied"] == "wait=30"
    one_waiter.engine.dispose()


@pytest.mark.parametrize("preference", ['wait="1"', "WAIT=1", "respond-async, wait=1", "wait = 1"])
def test_every_spelling_of_the_preference_is_understood(service: Service, preference: str) -> None:
    key = service.container.accounts.create_api_key(ACCOUNT, Role.MERCHANT)

    answer = (
        create_app(service.container)
        .test_client()
        .post(
            "/payments",
            json=a_start_body(),
            headers={
                "Authorization": f"Bearer {key}",
                "Idempotency-Key": "key-1",
                "Prefer": preference,
            },
        )
    )

    assert answer.headers["Preference-Applied"] == "wait=1"
