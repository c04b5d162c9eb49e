"""A flood of refused webhooks is kept within a budget, and hides nobody else's."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.refusal_budget import (
    KEPT_A_MINUTE_MAX,
    KEPT_AN_ADDRESS_A_MINUTE_MAX,
    RefusalBudget,
)

STRANGER, PSP = "203.0.113.7", "198.51.100.1"


def grants(budget: RefusalBudget, *addresses: str | None, at_seconds: float = 0) -> int:
    return sum(budget.grant(address, at_seconds=at_seconds) for address in addresses)


def test_one_stranger_leaves_room_for_the_psp() -> None:
    budget = RefusalBudget()

    assert grants(budget, *[STRANGER] * 1000) == KEPT_AN_ADDRESS_A_MINUTE_MAX
    assert grants(budget, PSP) == 1


def test_all_strangers_together_have_no_more_than_the_minute_has() -> None:
    strangers = [str(IPv4Address(number)) for number in range(10_000)]

    assert grants(RefusalBudget(), *strangers) == KEPT_A_MINUTE_MAX


def test_the_next_minute_has_a_budget_of_its_own() -> None:
    budget = RefusalBudget()
    grants(budget, *[STRANGER] * 1000, at_seconds=59.9)

    assert grants(budget, STRANGER, at_seconds=60) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2"],
        ["203.0.113.7", "::ffff:203.0.113.7"],
        [None, ""],
        ["unix:", "not an address"],
    ],
)
def test_addresses_that_one_stranger_can_choose_share_a_budget(addresses: list[str | None]) -> None:
    budget = RefusalBudget(an_address_a_minute=1)

    assert grants(budget, *addresses) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["2001:db8:0:1::1", "2001:db8:0:2::1"],
        ["::ffff:203.0.113.7", "::ffff:203.0.113.8"],
        [STRANGER, PSP],
    ],
)
def test_addresses_of_different_networks_do_not(addresses: list[str]) -> None:
    budget = RefusalBudget(an_address_a_minute=1)

    assert grants(budget, *addresses) == 2


@given(st.lists(st.tuples(st.integers(0, 8).map(str), st.floats(0, 300)), max_size=200))
def test_no_minute_and_no_address_ever_has_more(requests: list[tuple[str, float]]) -> None:
    budget = RefusalBudget(a_minute=5, an_address_a_minute=2)
    granted = [
        (f"10.0.0.{address}", at // 60)
        for address, at in sorted(requests, key=lambda request: request[1])
        if budget.grant(f"10.0.0.{address}", at_seconds=at)
    ]

    assert all(granted.count(one) <= 2 for one in granted)
    minutes = [minute for _address, minute in granted]
    assert all(minutes.count(minute) <= 5 for minute in minutes)
