"""When a breaker opens, whom it lets out, and when it closes, on the test's own time."""

import logging

import pytest

from app.gateways.breaker import FAILURES_MAX, MEMORY_SECONDS, Breaker
from app.redis_client import RedisAway
from tests.support.guards import PAUSE_SECONDS, Timer, a_breaker, open_breaker
from tests.support.service import at_once


class NoMarks:
    """Shared marks that can't be asked."""

    def is_set(self, name: str) -> bool:
        raise RedisAway

    def claim(self, name: str, seconds: float) -> bool:
        raise RedisAway

    def extend(self, name: str, seconds: float) -> bool:
        raise RedisAway

    def count(self, name: str, seconds: float) -> int:
        raise RedisAway

    def clear(self, name: str, *others: str) -> bool:
        raise RedisAway


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture(params=["shared marks", "shared marks away"])
def breaker(request: pytest.FixtureRequest, timer: Timer) -> Breaker:
    return a_breaker(now=timer.now, shared=NoMarks() if "away" in request.param else None)


def test_a_few_failures_leave_it_closed(breaker: Breaker) -> None:
    for _failure in range(FAILURES_MAX - 1):
        breaker.failed()

    assert breaker.admits()


def test_many_failures_in_a_row_open_it(breaker: Breaker) -> None:
    open_breaker(breaker)

    assert not breaker.admits()


def test_a_success_among_the_failures_keeps_it_closed(breaker: Breaker) -> None:
    for _round in range(3):
        for _failure in range(FAILURES_MAX - 1):
            breaker.failed()
        breaker.succeeded()

    assert breaker.admits()


def test_failures_that_are_far_apart_are_not_of_one_outage(breaker: Breaker, timer: Timer) -> None:
    for _failure in range(3 * FAILURES_MAX):
        timer.at += MEMORY_SECONDS / (FAILURES_MAX - 1)
        breaker.failed()

    assert breaker.admits()


def test_one_probe_goes_out_after_the_pause(breaker: Breaker, timer: Timer) -> None:
    open_breaker(breaker)
    timer.at += PAUSE_SECONDS

    assert [breaker.admits() for _call in range(3)] == [True, False, False]


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, timer: Timer) -> None:
    open_breaker(breaker)
    timer.at += PAUSE_SECONDS
    breaker.admits()
    breaker.succeeded()

    assert [breaker.admits() for _call in range(3)] == [True, True, True]


def test_a_breaker_that_closed_forgets_the_failures(breaker: Breaker) -> None:
    open_breaker(breaker)
    breaker.succeeded()
    breaker.failed()

    assert breaker.admits()


def test_a_probe_that_fails_leaves_it_open_until_the_next_one(
    breaker: Breaker, timer: Timer
) -> None:
    open_breaker(breaker)
    admitted = []
    for _pause in range(3):
        timer.at += PAUSE_SECONDS
        admitted += [breaker.admits(), breaker.admits()]
        breaker.failed()

    assert admitted == [True, False] * 3


def test_a_probe_that_never_comes_back_is_followed_by_another(
    breaker: Breaker, timer: Timer
) -> None:
    open_breaker(breaker)
    timer.at += PAUSE_SECONDS
    breaker.admits()
    timer.at += PAUSE_SECONDS

    assert [breaker.admits(), breaker.admits()] == [True, False]


def test_failures_that_come_late_give_no_second_probe(breaker: Breaker, timer: Timer) -> None:
    open_breaker(breaker)
    timer.at += PAUSE_SECONDS
    breaker.admits()
    open_breaker(breaker)

    assert not breaker.admits()


def test_an_outage_that_lasts_keeps_it_open(breaker: Breaker, timer: Timer) -> None:
    open_breaker(breaker)
    for _pause in range(int(10 * MEMORY_SECONDS / PAUSE_SECONDS)):
        timer.at += PAUSE_SECONDS
        breaker.admits()
        breaker.failed()

    assert not breaker.admits()


def test_a_breaker_that_nobody_asks_any_more_closes(breaker: Breaker, timer: Timer) -> None:
    open_breaker(breaker)
    timer.at += MEMORY_SECONDS + PAUSE_SECONDS

    assert [breaker.admits(), breaker.admits()] == [True, True]


def test_of_many_threads_one_is_the_probe(breaker: Breaker, timer: Timer) -> None:
    open_breaker(breaker)
    timer.at += PAUSE_SECONDS

    assert sum(at_once([breaker.admits] * 8)) == 1


def test_opening_and_closing_are_each_told_once(
    breaker: Breaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _more in range(2):
        open_breaker(breaker)
    for _more in range(2):
        breaker.succeeded()

    told = [(line.getMessage(), vars(line)["dependency"]) for line in caplog.records]
    assert told == [("breaker opened", "peer"), ("breaker closed", "peer")]
