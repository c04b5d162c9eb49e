"""Processes die at the worst moment, for real; nothing is lost and nothing happens twice.

Promises 1, 3 and 4 of the README; faults F18, F21, F22 (kill -9 of real processes).
"""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import httpx2

from tests.support.builders import a_webhook, an_item
from tests.support.instance import RunningInstance, eventually, running_instance

PAYMENTS = 12


def _all_rest(instance: RunningInstance, ids: list[str]) -> bool:
    return all(instance.payment(payment_id)["state"] == "fin" for payment_id in ids)


def _start_many(instance: RunningInstance) -> list[str]:
    def start(number: int) -> str:
        answer = instance.start_payment(f"ORDER-{number}", capture="automatic")
        assert answer.status_code == 202
        return str(answer.json()["id"])

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(start, range(PAYMENTS)))


def _assert_nothing_happened_twice(instance: RunningInstance) -> None:
    books = instance.books()
    assert len(books["payments"]) == PAYMENTS
    for book in books["payments"]:
        assert (book["authorisations"], book["captured"]) == (1, 12500), book
        assert len(book["modifications"]) == 1, book
    confirmed = [booking for booking in books["bookings"] if booking["status"] == "confirmed"]
    assert [booking["confirmations"] for booking in confirmed] == [1] * PAYMENTS
    assert len({mail["message_id"] for mail in books["mails"]}) == PAYMENTS


def test_kill_9_of_the_worker_between_effect_and_commit_loses_and_doubles_nothing() -> None:
    slow = {"COUNTERSIGN_FAILPOINTS": "saga.after_effect=sleep:0.3"}
    with running_instance(slow) as instance:
        ids = _start_many(instance)
        for _kill in range(3):
            sleep(0.7)
            instance.kill_9("worker")
        eventually(lambda: _all_rest(instance, ids), within_seconds=90)

        _assert_nothing_happened_twice(instance)
        assert instance.command("verify").returncode == 0


def test_kill_9_of_web_and_worker_loses_no_acknowledged_webhook() -> None:
    with running_instance() as instance:
        ids = _start_many(instance)
        instance.kill_9("web")
        instance.kill_9("worker")
        eventually(lambda: _all_rest(instance, ids), within_seconds=90)

        _assert_nothing_happened_twice(instance)


def test_a_webhook_acknowledged_just_before_the_kill_is_applied_after_it() -> None:
    with running_instance({"COUNTERSIGN_ORPHAN_GRACE_SECONDS": "0"}) as instance:
        instance.kill_9("worker")
        key = bytes.fromhex(instance.demo["hmac_key"])
        body = a_webhook(an_item(merchant_reference="ORDER-not-ours"), key=key)
        answer = httpx2.post(f"{instance.demo['url']}/webhooks/adyen", content=body)
        instance.kill_9("web")
        assert answer.status_code == 200

        def external() -> list[dict[str, object]]:
            with instance.api as api:
                return list(api.get("/payments?state=external").json()["items"])

        [payment] = eventually(external)

        assert payment["merchant_reference"] == "ORDER-not-ours"


def test_stores_that_are_killed_are_started_again_and_nothing_is_lost() -> None:
    with running_instance() as instance:
        ids = _start_many(instance)
        for store in instance.stores():
            store.kill()
        eventually(lambda: _all_rest(instance, ids), within_seconds=90)

        _assert_nothing_happened_twice(instance)
        assert instance.command("verify").returncode == 0
