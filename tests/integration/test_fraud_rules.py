"""The built-in fraud rules on real stores, one of which may be away (F54, F55)."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from pydantic import SecretStr
from redis import Redis

from app.bootstrap import Container
from app.domain.fraud import Denial, DenialKind
from app.domain.operators import Grounds
from app.domain.payment import Payment
from app.domain.saga import Reply
from app.embedded import EmbeddedRedis
from app.errors import GatewayNotAsked
from app.gateways.velocity import Velocity
from app.sagas.booking import check_fraud_rules
from tests.support.builders import ACCOUNT, DETAILS, NOW, a_command, a_payment, numbered_id
from tests.support.clock import FixedClock
from tests.support.outages import postgres_outage
from tests.support.service import at_once

WINDOW_SECONDS = 60
CHARGEBACKS = Grounds("dana", "three chargebacks")
TWO = {"fraud_velocity_max": 2, "fraud_velocity_seconds": WINDOW_SECONDS}


def a_payment_of(number: int, *, email: str = "s.hopper@example.com") -> Payment:
    details = {**DETAILS, "shopper": {"email": email}}
    return replace(a_payment(payment_id=numbered_id(number)), details=details)


def ask(container: Container, payment: Payment | None = None) -> Reply:
    return container.fraud_rules.handle(a_command(check_fraud_rules(payment or a_payment())))


@pytest.fixture
def with_rules(container: Container) -> Iterator[Callable[..., Container]]:
    """Makes the same service with fraud rules of its own."""
    made: list[Container] = []

    def make(**changes: object) -> Container:
        made.append(
            replace(container, settings=container.settings.model_copy(update={**TWO, **changes}))
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def two_a_minute(with_rules: Callable[..., Container]) -> Container:
    return with_rules()


def decisions(container: Container, *numbers: int, email: str = "s.hopper@example.com") -> str:
    """Ask about payments one after another; ``y`` and ``n`` say what came of each."""
    replies = [ask(container, a_payment_of(number, email=email)) for number in numbers]
    return "".join("y" if reply.success else "n" for reply in replies)


def test_without_rules_everything_is_accepted(container: Container) -> None:
    assert ask(container) == Reply(success=True, data={"decision": "accept"})


def test_an_amount_over_the_cap_is_refused(with_rules: Callable[..., Container]) -> None:
    reply = ask(with_rules(fraud_amount_max="USD=1,EUR=12499"))

    assert reply.data == {
        "decision": "refuse",
        "rule": "amount_cap",
        "reason": "125.00 EUR is more than 124.99 EUR, the most that is taken",
    }
    assert not reply.success


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DenialKind.EMAIL, "S.Hopper@Example.com"),
        (DenialKind.EMAIL_DOMAIN, "EXAMPLE.COM"),
        (DenialKind.EMAIL_DOMAIN, "com"),
    ],
)
def test_who_is_on_the_deny_list_is_refused_from_the_next_payment_on(
    container: Container, kind: DenialKind, value: str
) -> None:
    before = ask(container)
    denial = Denial.of(kind, value)
    container.fraud_denials.add(ACCOUNT, denial, CHARGEBACKS)
    during = ask(container)
    container.fraud_denials.remove(ACCOUNT, denial, CHARGEBACKS)

    assert [before.success, during.success, ask(container).success] == [True, False, True]
    assert (during.data["decision"], during.data["rule"]) == ("refuse", "deny_list")
    assert "example" not in str(during.data).lower()


def test_a_deny_list_is_its_accounts_own(container: Container) -> None:
    container.accounts.add("OtherECOM", [])
    denial = Denial.of(DenialKind.EMAIL, "s.hopper@example.com")
    container.fraud_denials.add("OtherECOM", denial, CHARGEBACKS)

    assert ask(container).success


def test_a_deny_list_that_cannot_be_read_puts_the_payment_off(container: Container) -> None:
    """Nobody slips through while Postgres is away, and nobody is refused for it."""
    with (
        postgres_outage(container.settings.database_url.get_secret_value()),
        pytest.raises(GatewayNotAsked),
    ):
        ask(container)

    assert ask(container).success


def test_one_payment_too_many_of_a_shopper_is_refused(two_a_minute: Container) -> None:
    assert decisions(two_a_minute, 1, 2, 3) == "yyn"
    reply = ask(two_a_minute, a_payment_of(4))
    assert reply.data == {
        "decision": "refuse",
        "rule": "velocity",
        "reason": "more than 2 payments of one shopper within 60 seconds",
    }


def test_a_payment_that_is_asked_about_again_counts_once_and_is_told_the_same(
    two_a_minute: Container,
) -> None:
    assert decisions(two_a_minute, 1, 1, 1, 2, 3, 3, 2, 1) == "yyyynnyy"


def test_shoppers_are_told_apart_without_regard_to_case(two_a_minute: Container) -> None:
    assert decisions(two_a_minute, 1, 2, email="S.Hopper@example.com") == "yy"
    assert decisions(two_a_minute, 3, email="s.hopper@EXAMPLE.com") == "n"
    assert decisions(two_a_minute, 4, email="g.hopper@example.com") == "y"


def test_the_window_moves_with_every_payment(two_a_minute: Container, clock: FixedClock) -> None:
    said = []
    for number, seconds in enumerate([0, 30, 29, 1, 30, 29]):
        clock.at += timedelta(seconds=seconds)
        said.append(decisions(two_a_minute, number))

    # At 0, 30, 59, 60, 90 and 119 seconds: what is a whole window ago counts no longer.
    assert said == ["y", "y", "n", "n", "n", "n"]


def test_after_a_quiet_window_a_shopper_starts_anew(
    two_a_minute: Container, clock: FixedClock
) -> None:
    first = decisions(two_a_minute, 1, 2, 3)
    clock.at += timedelta(seconds=WINDOW_SECONDS)

    assert (first, decisions(two_a_minute, 4, 5, 6)) == ("yyn", "yyn")


def test_of_many_at_once_only_as_many_as_may_are_accepted(redis_url: str) -> None:
    def is_accepted(number: int) -> bool:
        velocity = Velocity(redis_url, secret=b"s", most=2, window_seconds=WINDOW_SECONDS)
        return velocity.check(ACCOUNT, "s@example.com", str(numbered_id(number)), now=NOW) is None

    accepted = at_once([partial(is_accepted, number) for number in range(12)])

    assert sum(accepted) == 2


def test_what_another_rule_refuses_does_not_count(
    two_a_minute: Container, with_rules: Callable[..., Container]
) -> None:
    strict = with_rules(fraud_amount_max="EUR=1")

    assert (decisions(strict, 1, 2, 3), decisions(two_a_minute, 4, 5)) == ("nnn", "yy")


def test_redis_holds_no_address_and_nothing_for_longer_than_the_window(
    two_a_minute: Container, redis_url: str
) -> None:
    decisions(two_a_minute, 1, 2)

    with Redis.from_url(redis_url, decode_responses=True) as redis:
        [name] = redis.keys("countersign:velocity:*")
        seconds = redis.ttl(name)
        members = redis.zrange(name, 0, -1)

    assert "hopper" not in name
    assert sorted(members) == sorted(str(numbered_id(number)) for number in (1, 2))
    assert 0 < seconds <= WINDOW_SECONDS


def test_a_redis_that_forgets_counts_from_the_start(
    two_a_minute: Container, redis_url: str
) -> None:
    decisions(two_a_minute, 1, 2)
    with Redis.from_url(redis_url) as redis:
        redis.flushall()

    assert decisions(two_a_minute, 3, 4, 5) == "yyn"


@pytest.mark.parametrize("away", [signal.SIGSTOP, signal.SIGKILL])
def test_without_redis_the_other_rules_go_on_and_the_reply_says_so(
    with_rules: Callable[..., Container], redis_process: EmbeddedRedis, away: signal.Signals
) -> None:
    """F55: what is counted in Redis is passed over, and never holds a payment up."""
    denial = Denial.of(DenialKind.EMAIL, "mallory@example.com")
    elsewhere = with_rules(redis_url=SecretStr(redis_process.url))
    elsewhere.fraud_denials.add(ACCOUNT, denial, CHARGEBACKS)
    decisions(elsewhere, 1, 2)
    redis_process.process.send_signal(away)

    replies = [ask(elsewhere, a_payment_of(number)) for number in (3, 4)]
    denied = ask(elsewhere, a_payment_of(5, email="mallory@example.com"))

    assert [dict(reply.data) for reply in replies] == [
        {"decision": "accept", "not_applied": ["velocity"]}
    ] * 2
    assert denied.data["rule"] == "deny_list"
