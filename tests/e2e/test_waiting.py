"""Requests that wait, at a real web process on greenlets (F5, F39)."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx2
import pytest

from tests.support.builders import a_start_body
from tests.support.instance import RunningInstance, eventually, running_instance

#: Two web processes with a place each: as many hang up, and some more.
HUNG_UP = 6


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance({"COUNTERSIGN_WEB_WAITERS": "1"}) as running:
        yield running


def a_lost_webhook(reference: str) -> dict[str, object]:
    """A payment that does not rest while anybody waits."""
    return a_start_body(
        merchant_reference=reference,
        payment_method={"type": "scheme", "holder_name": "LOST WEBHOOK"},
    )


def headers(instance: RunningInstance, reference: str, wait: int) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {instance.demo['api_key']}",
        "Content-Type": "application/json",
        "Idempotency-Key": reference,
        "Prefer": f"wait={wait}",
    }


def hang_up(instance: RunningInstance, reference: str, wait: int) -> None:
    """Start a payment, and leave without the answer as soon as it is begun."""
    body = json.dumps(a_lost_webhook(reference)).encode()
    lines = [f"{name}: {value}" for name, value in headers(instance, reference, wait).items()]
    head = ["POST /payments HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    with socket.create_connection(("127.0.0.1", instance.port)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        await_started(instance, reference)


def post(instance: RunningInstance, reference: str, wait: int) -> httpx2.Response:
    return httpx2.post(
        f"{instance.demo['url']}/payments",
        json=a_lost_webhook(reference),
        headers=headers(instance, reference, wait),
        timeout=40,
    )


def replayed(instance: RunningInstance, reference: str) -> httpx2.Response | None:
    """Ask again; None while the first request still runs."""
    answer = post(instance, reference, wait=3)
    return answer if "Idempotency-Replayed" in answer.headers else None


def await_started(instance: RunningInstance, reference: str) -> None:
    def is_started() -> bool:
        with instance.api as api:
            found = api.get("/payments", params={"merchant_reference": reference})
            return bool(found.json()["items"])

    eventually(is_started)


@contextmanager
def hanging_postgres(instance: RunningInstance) -> Iterator[None]:
    """Postgres answers nothing while the block runs."""
    stopped = [process for process in instance.stores() if "postgres" in process.name()]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)


def test_who_hangs_up_finds_the_answer_kept_and_leaves_a_free_place(
    instance: RunningInstance,
) -> None:
    references = [f"ORDER-hung-up-{number}" for number in range(HUNG_UP)]
    for reference in references:
        hang_up(instance, reference, wait=3)

    replays = [eventually(partial(replayed, instance, reference)) for reference in references]
    waited = [post(instance, f"ORDER-later-{number}", wait=1) for number in range(HUNG_UP)]

    assert [replay.status_code for replay in replays] == [202] * HUNG_UP
    assert ["Preference-Applied" in answer.headers for answer in waited] == [True] * HUNG_UP


def test_a_database_that_hangs_in_mid_wait_costs_no_answer(instance: RunningInstance) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, instance, "ORDER-hanging", 4)
        await_started(instance, "ORDER-hanging")
        with hanging_postgres(instance):
            answer = waiting.result(30)

    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=4"
    assert answer.json()["merchant_reference"] == "ORDER-hanging"
