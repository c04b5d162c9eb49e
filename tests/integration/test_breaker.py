"""The breaker's state on a real Redis, which may go away or forget at any instant (F54-F56)."""

import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from redis import Redis

from app.embedded import EmbeddedRedis
from app.gateways.breaker import Breaker, RedisMarks
from app.redis_client import PAUSE_SECONDS
from tests.support.guards import (
    Timer,
    a_breaker,
    a_process_asks,
    a_process_opens,
    open_breaker,
)
from tests.support.service import at_once

ROUNDS = 25


def on_redis(url: str, timer: Timer | None = None) -> Breaker:
    """A breaker as another process would have it: nothing shared but Redis."""
    return a_breaker(shared=RedisMarks(url, (timer or Timer()).now))


def end_the_pause(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.delete("countersign:breaker:peer:pause")


def flush(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.flushall()


def test_what_one_opens_is_open_for_all(redis_url: str) -> None:
    open_breaker(on_redis(redis_url))

    assert not on_redis(redis_url).admits()


def test_failures_of_all_count_together(redis_url: str) -> None:
    at_once([lambda: on_redis(redis_url).failed()] * 10)

    assert not on_redis(redis_url).admits()


def test_what_one_closes_is_closed_for_all(redis_url: str) -> None:
    open_breaker(on_redis(redis_url))
    on_redis(redis_url).succeeded()

    assert on_redis(redis_url).admits()


def test_half_open_exactly_one_probe_goes_out(redis_url: str) -> None:
    """F56."""
    breakers = [on_redis(redis_url) for _process in range(8)]
    open_breaker(breakers[0])
    probes = []
    for _round in range(ROUNDS):
        end_the_pause(redis_url)
        probes.append(sum(at_once([breaker.admits for breaker in breakers])))

    assert probes == [1] * ROUNDS


def test_processes_share_the_breaker(redis_url: str) -> None:
    """F56: of all processes exactly one call goes out as the probe."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        processes.submit(a_process_opens, redis_url).result()
        while_open = list(processes.map(a_process_asks, [redis_url] * 4))
        end_the_pause(redis_url)
        half_open = list(processes.map(a_process_asks, [redis_url] * 8))

    assert while_open == [False] * 4
    assert sum(half_open) == 1


def test_nothing_of_it_stays_in_redis_for_ever(redis_url: str) -> None:
    open_breaker(on_redis(redis_url))

    with Redis.from_url(redis_url, decode_responses=True) as redis:
        lives = {key: redis.ttl(key) for key in redis.scan_iter("countersign:breaker:*")}

    assert len(lives) == 3
    assert all(0 < seconds < 120 for seconds in lives.values())


def test_a_redis_that_forgets_closes_it(redis_url: str) -> None:
    """F54."""
    breaker = on_redis(redis_url)
    open_breaker(breaker)
    flush(redis_url)

    assert [breaker.admits(), breaker.admits()] == [True, True]


@pytest.mark.parametrize("away", [signal.SIGSTOP, signal.SIGKILL])
def test_without_redis_a_process_has_a_breaker_of_its_own(
    redis_process: EmbeddedRedis, away: signal.Signals
) -> None:
    """F55."""
    breaker = on_redis(redis_process.url)
    breaker.failed()
    redis_process.process.send_signal(away)

    before = breaker.admits()
    open_breaker(breaker)

    assert (before, breaker.admits()) == (True, False)
    assert on_redis(redis_process.url).admits()


def test_a_redis_that_failed_is_left_alone_for_a_while(redis_process: EmbeddedRedis) -> None:
    timer = Timer()
    breaker = on_redis(redis_process.url, timer)
    redis_process.process.send_signal(signal.SIGSTOP)
    breaker.admits()
    redis_process.process.send_signal(signal.SIGCONT)
    open_breaker(on_redis(redis_process.url))

    while_left_alone = breaker.admits()
    timer.at += PAUSE_SECONDS

    assert (while_left_alone, breaker.admits()) == (True, False)


def test_a_foreign_value_in_redis_is_harmless(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.lpush("countersign:breaker:peer:failures", "what")
    breaker = on_redis(redis_url)
    open_breaker(breaker)

    assert not breaker.admits()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://no.invalid", "unix:///nowhere"])
def test_an_address_without_redis_is_harmless(url: str) -> None:
    breaker = on_redis(url)
    open_breaker(breaker)

    assert not breaker.admits()
