"""What a guard does around a call: places, tries, the total deadline, and what it tells."""

from collections.abc import Callable
from threading import Barrier, Event

import pytest
from prometheus_client import CollectorRegistry

from app.errors import (
    GatewayError,
    GatewayInProgress,
    GatewayNotAsked,
    GatewayOverloaded,
    GatewayRejected,
    GatewayTimeout,
    GatewayUnavailable,
)
from app.gateways.breaker import FAILURES_MAX
from app.gateways.resilience import PAUSES_SECONDS, Guard, Guarded
from app.sagas.booking import send_confirmation
from tests.support.builders import a_command, a_payment
from tests.support.fakes import FakeMail
from tests.support.guards import PAUSE_SECONDS, Timer, a_breaker, a_guard, open_breaker
from tests.support.service import at_once

ALL_TRIES = 1 + len(PAUSES_SECONDS)

FAILURES = [GatewayUnavailable, GatewayTimeout, GatewayOverloaded, GatewayNotAsked]
HEALTHY = [GatewayRejected, GatewayInProgress]


class Peer:
    """Fails its first calls, each of which takes some seconds, and answers the others.

    Attributes:
        left: What each call was given to take.
    """

    def __init__(
        self, *failures: GatewayError, timer: Timer | None = None, takes: float = 0
    ) -> None:
        self.failures = list(failures)
        self.left: list[float] = []
        self._timer = timer or Timer()
        self._takes = takes

    def __call__(self, seconds: float) -> str:
        self.left.append(seconds)
        self._timer.at += min(self._takes, seconds)
        if self.failures:
            raise self.failures.pop(0)
        return "yes"


def failure_of(guard: Guard, ask: Callable[[float], str]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        guard.call(ask)
    return caught.value


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(
        f"countersign_gateway_{name}", {"dependency": "peer", **labels}
    )


@pytest.mark.parametrize(
    "blip", [GatewayUnavailable, GatewayTimeout, GatewayNotAsked, GatewayInProgress]
)
def test_a_blip_is_tried_again(blip: type[GatewayError]) -> None:
    peer = Peer(blip("1"), blip("2"))

    assert a_guard().call(peer) == "yes"
    assert len(peer.left) == 3


@pytest.mark.parametrize("failure", [GatewayRejected, GatewayOverloaded])
def test_a_refusal_and_a_plea_to_wait_are_told_at_once(failure: type[GatewayError]) -> None:
    peer = Peer(failure("no"))

    assert type(failure_of(a_guard(), peer)) is failure
    assert len(peer.left) == 1


def test_a_call_ends_with_its_last_try() -> None:
    peer = Peer(*(GatewayUnavailable(str(number)) for number in range(9)))

    assert str(failure_of(a_guard(), peer)) == "2"
    assert len(peer.left) == ALL_TRIES


def test_a_call_without_key_is_tried_once() -> None:
    peer = Peer(GatewayUnavailable("no"))
    failure_of(a_guard(pauses_seconds=()), peer)

    assert len(peer.left) == 1


def test_the_pauses_are_drawn_below_their_bounds() -> None:
    timer = Timer()
    peer = Peer(*[GatewayUnavailable("no")] * 2)
    guard = a_guard(timeout_seconds=10, now=timer.now, sleep=timer.sleep)

    guard.call(peer)

    assert timer.slept == list(PAUSES_SECONDS)


@pytest.mark.parametrize("takes", [0.0, 0.3, 1.0, 2.5, 4.0])
@pytest.mark.parametrize("timeout_seconds", [0.5, 1.0, 3.0])
def test_no_try_begins_or_ends_after_the_total_deadline(
    takes: float, timeout_seconds: float
) -> None:
    timer = Timer()
    peer = Peer(*[GatewayUnavailable("no")] * ALL_TRIES, timer=timer, takes=takes)
    guard = a_guard(timeout_seconds=timeout_seconds, now=timer.now, sleep=timer.sleep)
    began = timer.at

    failure_of(guard, peer)

    assert timer.at - began <= timeout_seconds + 1e-9
    assert all(0 < left <= timeout_seconds for left in peer.left)
    assert peer.left == sorted(peer.left, reverse=True)


def test_a_timeout_that_took_all_the_time_is_not_tried_again() -> None:
    timer = Timer()
    peer = Peer(GatewayTimeout("no answer"), timer=timer, takes=1.0)
    failure_of(a_guard(timeout_seconds=1.0, now=timer.now, sleep=timer.sleep), peer)

    assert len(peer.left) == 1
    assert timer.slept == []


@pytest.mark.parametrize("surely_nothing", [GatewayRejected, GatewayNotAsked])
@pytest.mark.parametrize("perhaps", [GatewayTimeout, GatewayUnavailable, GatewayInProgress])
def test_what_may_have_worked_outweighs_what_surely_did_not(
    perhaps: type[GatewayError], surely_nothing: type[GatewayError]
) -> None:
    peer = Peer(perhaps("perhaps"), *[surely_nothing("no")] * 2)

    assert type(failure_of(a_guard(), peer)) is perhaps


def test_a_refusal_after_tries_that_never_left_is_a_refusal() -> None:
    peer = Peer(GatewayNotAsked("not there"), GatewayRejected("no"))

    assert type(failure_of(a_guard(), peer)) is GatewayRejected


def test_an_open_breaker_leaves_the_service_alone() -> None:
    breaker, peer = a_breaker(), Peer()
    open_breaker(breaker)

    assert type(failure_of(a_guard(breaker=breaker), peer)) is GatewayNotAsked
    assert peer.left == []


def test_a_breaker_that_opens_within_a_call_ends_it_and_hides_nothing() -> None:
    breaker, peer = a_breaker(), Peer(*[GatewayTimeout("no answer")] * ALL_TRIES)
    for _failure in range(FAILURES_MAX - 1):
        breaker.failed()

    assert type(failure_of(a_guard(breaker=breaker), peer)) is GatewayTimeout
    assert len(peer.left) == 1


@pytest.mark.parametrize("failure", FAILURES)
def test_technical_failures_open_the_breaker(failure: type[GatewayError]) -> None:
    breaker = a_breaker()
    guard = a_guard(breaker=breaker, pauses_seconds=())
    for _call in range(FAILURES_MAX):
        failure_of(guard, Peer(failure("no")))

    assert not breaker.admits()


@pytest.mark.parametrize("healthy", HEALTHY)
def test_a_service_that_refuses_is_well(healthy: type[GatewayError]) -> None:
    breaker = a_breaker()
    guard = a_guard(breaker=breaker, pauses_seconds=())
    for _call in range(FAILURES_MAX - 1):
        breaker.failed()
    for _call in range(3 * FAILURES_MAX):
        failure_of(guard, Peer(healthy("no")))

    assert breaker.admits()


def test_a_half_open_breaker_lets_one_try_out_and_no_second_one() -> None:
    timer = Timer()
    breaker = a_breaker(now=timer.now)
    open_breaker(breaker)
    timer.at += PAUSE_SECONDS
    peer = Peer(*[GatewayUnavailable("still away")] * ALL_TRIES)
    failure_of(a_guard(breaker=breaker), peer)

    assert len(peer.left) == 1


def test_an_answered_probe_lets_everybody_out() -> None:
    timer = Timer()
    breaker = a_breaker(now=timer.now)
    open_breaker(breaker)
    timer.at += PAUSE_SECONDS
    guard = a_guard(breaker=breaker)

    assert [guard.call(Peer()) for _call in range(3)] == ["yes"] * 3


def test_no_more_calls_at_once_than_there_are_places() -> None:
    guard, asked = a_guard(calls_max=2), []
    both_inside, leave = Barrier(3), Event()

    def hold(_seconds: float) -> str:
        asked.append("held")
        both_inside.wait(30)
        leave.wait(30)
        return "yes"

    def crowd() -> str:
        both_inside.wait(30)
        try:
            return type(failure_of(guard, Peer())).__name__
        finally:
            leave.set()

    outcomes = at_once([lambda: guard.call(hold), lambda: guard.call(hold), crowd])

    assert outcomes == ["yes", "yes", "GatewayNotAsked"]
    assert guard.call(Peer()) == "yes"


def test_a_call_that_fails_gives_its_place_back() -> None:
    guard = a_guard(calls_max=1)
    failure_of(guard, Peer(GatewayRejected("no")))

    assert guard.call(Peer()) == "yes"


def test_a_mail_is_sent_through_the_guard_once() -> None:
    mail = FakeMail(failures=[GatewayUnavailable("451")])
    guarded = Guarded(mail, a_guard(pauses_seconds=()))
    command = a_command(send_confirmation(a_payment()))

    with pytest.raises(GatewayUnavailable):
        guarded.handle(command)

    assert mail.asked("send") == 1
    assert guarded.handle(command).success


def test_calls_are_counted_by_what_they_came_to() -> None:
    registry = CollectorRegistry()
    guard = a_guard(registry=registry)
    guard.call(Peer())
    guard.call(Peer(GatewayUnavailable("blip")))
    failure_of(guard, Peer(GatewayRejected("no")))

    assert sample(registry, "calls_total", outcome="answered") == 2
    assert sample(registry, "calls_total", outcome="gateway_rejected") == 1
    assert sample(registry, "call_seconds_count") == 3
    assert sample(registry, "retries_total") == 1


def test_calls_that_were_not_made_are_counted() -> None:
    registry = CollectorRegistry()
    guard = a_guard(registry=registry, calls_max=1)
    guard.call(lambda _seconds: str(failure_of(guard, Peer())))

    assert sample(registry, "crowded_out_total") == 1
    assert sample(registry, "calls_total", outcome="gateway_not_asked") == 1


def test_the_breakers_state_is_shown() -> None:
    registry, timer = CollectorRegistry(), Timer()
    breaker = a_breaker(now=timer.now)
    guard = a_guard(registry=registry, breaker=breaker)
    open_breaker(breaker)
    shown = []
    for pause_seconds in (0.0, PAUSE_SECONDS):
        timer.at += pause_seconds
        peer = Peer()
        shown.append(guard.call(peer) if pause_seconds else str(type(failure_of(guard, peer))))
        shown.append(str(sample(registry, "breaker_open")))

    assert shown[1::2] == ["1.0", "0.0"]


def test_calls_under_way_are_shown_while_they_last() -> None:
    registry = CollectorRegistry()
    guard = a_guard(registry=registry)
    shown = [guard.call(lambda _seconds: str(sample(registry, "calls_under_way")))]
    failure_of(guard, Peer(GatewayRejected("no")))

    assert [*shown, str(sample(registry, "calls_under_way"))] == ["1.0", "0.0"]
