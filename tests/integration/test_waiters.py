"""One look at the database for all requests that wait, and none when nobody does."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import event

from app.bootstrap import Container
from app.http.waiters import WATCHER, WOKEN_MAX, Waited, Waiters
from tests.support.outages import postgres_outage
from tests.support.service import Service, poll

MANY = 200
LONG_SECONDS = 60

#: Longer than a look, shorter than anything that a test waits for.
SHORT_SECONDS = 0.01

NOWHERE = SecretStr("postgresql://nobody@/nowhere?host=/nonexistent")


class Statements:
    """The statements of an engine: the watcher's, by what they ask for, and how many others."""

    def __init__(self) -> None:
        self.looks: list[set[UUID]] = []
        self.others = 0

    def note(self, *cursor_execution: object) -> None:
        parameters = cursor_execution[3]
        if threading.current_thread().name != WATCHER:
            self.others += 1
        elif isinstance(parameters, Mapping):
            self.looks.append(set(parameters["payment_ids"]))

    def await_looks(self, n: int) -> None:
        """Wait until so many more looks have begun."""
        wanted = len(self.looks) + n
        poll(lambda: len(self.looks) >= wanted)

    def await_look_for(self, n: int) -> None:
        """Wait for a look for so many payments at once."""
        poll(lambda: bool(self.looks) and len(self.looks[-1]) == n)


@pytest.fixture
def waiters(container: Container) -> Waiters:
    return Waiters(container.engine, waiters_max=MANY)


@pytest.fixture
def statements(container: Container) -> Iterator[Statements]:
    found = Statements()
    event.listen(container.engine, "before_cursor_execute", found.note)
    yield found
    event.remove(container.engine, "before_cursor_execute", found.note)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MANY) as threads:
        yield threads


def some_payments(service: Service, n: int) -> list[UUID]:
    return [service.start(merchant_reference=f"ORDER-{number}") for number in range(n)]


def move(service: Service, state: str, *payment_ids: UUID) -> None:
    service.execute(
        "UPDATE payments SET state = :state WHERE payment_id = ANY(:ids)",
        state=state,
        ids=list(payment_ids),
    )


def is_watched() -> bool:
    return any(thread.name == WATCHER for thread in threading.enumerate())


def test_those_wake_whose_payment_rests_and_no_others(
    service: Service, waiters: Waiters, statements: Statements, pool: ThreadPoolExecutor
) -> None:
    first, second, third = some_payments(service, 3)
    waiting = {
        payment_id: pool.submit(waiters.wait, service.payment(payment_id), LONG_SECONDS)
        for payment_id in (first, second, third)
    }
    statements.await_look_for(3)

    move(service, "declined", second)
    woken = waiting[second].result(LONG_SECONDS)
    statements.await_look_for(2)
    statements.await_looks(2)
    still_waiting = {payment_id for payment_id, one in waiting.items() if not one.done()}
    move(service, "fin", first, third)

    assert woken.payment["id"] == str(second)
    assert woken.payment["state"] == "declined"
    assert still_waiting == {first, third}
    assert waiting[first].result(LONG_SECONDS).payment["state"] == "fin"
    assert waiting[third].result(LONG_SECONDS).payment["state"] == "fin"


def test_many_who_wait_are_answered_by_few_looks_and_ask_nothing_themselves(
    service: Service, waiters: Waiters, statements: Statements, pool: ThreadPoolExecutor
) -> None:
    payment_ids = some_payments(service, MANY)
    payments = [service.payment(payment_id) for payment_id in payment_ids]
    others_before = statements.others
    waiting: list[Future[Waited]] = [
        pool.submit(waiters.wait, payment, LONG_SECONDS) for payment in payments
    ]
    statements.await_look_for(MANY)
    move(service, "fin", *payment_ids)
    looks_before = len(statements.looks)

    answers = [one.result(LONG_SECONDS) for one in waiting]

    assert [answer.payment["id"] for answer in answers] == [str(one) for one in payment_ids]
    assert {answer.payment["state"] for answer in answers} == {"fin"}
    assert len(statements.looks) - looks_before <= MANY // WOKEN_MAX + 1
    assert statements.others - others_before == 1  # our own UPDATE


def test_nobody_is_watched_for_before_and_after_somebody_waits(
    service: Service, waiters: Waiters, statements: Statements
) -> None:
    poll(lambda: not is_watched())
    [payment_id] = some_payments(service, 1)
    is_watched_before = is_watched()

    waiters.wait(service.payment(payment_id), SHORT_SECONDS)
    poll(lambda: not is_watched())

    assert not is_watched_before
    assert statements.looks == [{payment_id}]


def test_a_process_without_waiting_requests_has_no_watcher(
    service: Service, statements: Statements, restarted: Service
) -> None:
    poll(lambda: not is_watched())

    restarted.client.get("/health/live")
    service.start()

    assert not is_watched()
    assert statements.looks == []


def test_somebody_who_waits_after_everybody_has_gone_is_watched_for_again(
    service: Service, waiters: Waiters, statements: Statements, pool: ThreadPoolExecutor
) -> None:
    first, second = some_payments(service, 2)
    waiters.wait(service.payment(first), SHORT_SECONDS)
    poll(lambda: not is_watched())

    waiting = pool.submit(waiters.wait, service.payment(second), LONG_SECONDS)
    statements.await_look_for(1)
    move(service, "fin", second)

    assert waiting.result(LONG_SECONDS).payment["state"] == "fin"


def test_a_wait_that_is_over_tells_where_the_payment_is_by_now(
    service: Service, waiters: Waiters
) -> None:
    [payment_id] = some_payments(service, 1)
    payment = service.payment(payment_id)
    move(service, "preauth", payment_id)

    waited = waiters.wait(payment, SHORT_SECONDS)

    assert waited.payment["state"] == "preauth"
    assert waited.is_told


def test_a_payment_that_rests_already_is_not_waited_for(
    service: Service, waiters: Waiters, statements: Statements
) -> None:
    [payment_id] = some_payments(service, 1)
    move(service, "declined", payment_id)

    waited = waiters.wait(service.payment(payment_id), LONG_SECONDS)

    assert waited.payment["state"] == "declined"
    assert statements.looks == []


def test_two_who_wait_for_one_payment_are_both_woken(
    service: Service, waiters: Waiters, statements: Statements, pool: ThreadPoolExecutor
) -> None:
    [payment_id] = some_payments(service, 1)
    payment = service.payment(payment_id)
    waiting = [pool.submit(waiters.wait, payment, LONG_SECONDS) for _ in range(2)]
    statements.await_looks(1)

    move(service, "fin", payment_id)

    assert [one.result(LONG_SECONDS).payment["state"] for one in waiting] == ["fin"] * 2


def test_a_store_that_is_away_leaves_the_payment_as_it_was_known(service: Service) -> None:
    payment = service.payment(service.start())
    nowhere = service.restarted(database_url=NOWHERE)

    waited = Waiters(nowhere.container.engine, waiters_max=1).wait(payment, SHORT_SECONDS)
    nowhere.container.close()

    assert waited.payment["state"] == "fraud_check"
    assert waited.has_waited
    assert not waited.is_told


def test_a_store_that_goes_away_and_comes_back_is_told_of_once_and_wakes_as_before(
    service: Service,
    waiters: Waiters,
    statements: Statements,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[object] = []
    event.listen(service.container.engine, "do_connect", lambda *_: tries.append(1))
    payment_id = service.start()
    payment = service.payment(payment_id)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waiters.wait, payment, LONG_SECONDS)
        statements.await_looks(1)
        with postgres_outage(database_url):
            before = len(tries)
            poll(lambda: len(tries) >= before + 3)
            is_still_waiting = not waiting.done()
        move(service, "fin", payment_id)
        waited = waiting.result(LONG_SECONDS)

    assert is_still_waiting
    assert waited.payment["state"] == "fin"
    assert [one.message for one in caplog.records] == ["no look at payments"]


def test_a_place_is_free_again_when_its_wait_is_over(
    service: Service, statements: Statements, pool: ThreadPoolExecutor
) -> None:
    one_place = Waiters(service.container.engine, waiters_max=1)
    first, second = (service.payment(one) for one in some_payments(service, 2))
    waiting = pool.submit(one_place.wait, first, LONG_SECONDS)
    statements.await_look_for(1)

    beyond = one_place.wait(second, LONG_SECONDS)
    move(service, "fin", first.payment_id, second.payment_id)
    waiting.result(LONG_SECONDS)
    afterwards = one_place.wait(second, LONG_SECONDS)

    assert not beyond.has_waited
    assert beyond.payment["state"] == "fraud_check"
    assert afterwards.has_waited
    assert afterwards.payment["state"] == "fin"
