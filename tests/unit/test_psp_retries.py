"""The PSP's schedule of retries, and which waits are on it."""

from datetime import timedelta

import pytest

from app.domain.psp_retries import RETRY_GAPS, gaps_of, next_gap, scheduled
from tests.support.builders import NOW, later

MINUTE = 60


@pytest.mark.parametrize("tries", range(len(RETRY_GAPS)))
def test_after_each_try_comes_the_next_wait_of_the_schedule(tries: int) -> None:
    elapsed = sum(RETRY_GAPS[:tries], timedelta())

    assert next_gap(elapsed) == RETRY_GAPS[tries]


def test_a_try_that_comes_a_little_late_does_not_shift_the_schedule() -> None:
    assert next_gap(timedelta(minutes=7, seconds=40)) == timedelta(minutes=10)


def test_the_longest_wait_repeats() -> None:
    assert next_gap(timedelta(days=29)) == timedelta(hours=8)


@pytest.mark.parametrize("gap", RETRY_GAPS)
@pytest.mark.parametrize("late_seconds", [-20, 0, 25])
def test_a_wait_near_a_scheduled_one_fits(gap: timedelta, late_seconds: int) -> None:
    assert scheduled(gap + timedelta(seconds=late_seconds)) == gap


@pytest.mark.parametrize("seconds", [0, 1, 30, 60, 200, 90 * MINUTE, 48 * 60 * MINUTE])
def test_a_wait_between_scheduled_ones_fits_none(seconds: int) -> None:
    assert scheduled(timedelta(seconds=seconds)) is None


def test_one_try_has_no_gap() -> None:
    assert gaps_of([NOW]) == []
    assert gaps_of([NOW, later(2), later(7)]) == [timedelta(seconds=2), timedelta(seconds=5)]
