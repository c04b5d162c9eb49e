"""Goal: the order and the number of deliveries cannot change what is known about the money.

Method: any list of facts, few references and few instants so that slots collide and dates tie,
shuffled and repeated, against the straight run.
"""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.anomalies import anomalies
from app.domain.funds import Fact, FactKind, Funds
from tests.support.builders import a_fact, later

FACTS = st.builds(
    a_fact,
    st.sampled_from(FactKind),
    reference=st.sampled_from(["PAY", "MOD1", "MOD2"]),
    amount_minor=st.integers(0, 4),
    occurred_at=st.integers(0, 3).map(later),
    is_repeat=st.booleans(),
    payment_reference=st.sampled_from([None, None, "PAY", "PAY2"]),
)

quick = settings(deadline=None, derandomize=True, max_examples=60)


def sums(funds: Funds) -> tuple[object, ...]:
    return (
        funds.status,
        funds.authorised,
        funds.captured,
        funds.refunded,
        funds.charged_back,
        funds.cancelled,
        funds.held,
        funds.kept,
        anomalies(funds),
    )


@quick
@given(facts=st.lists(FACTS, max_size=10), data=st.data())
def test_any_order_and_repetition_gives_equal_funds(facts: list[Fact], data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.sampled_from(facts), max_size=5)) if facts else []
    delivered = data.draw(st.permutations(facts + repeats))

    shuffled, straight = Funds.of(delivered), Funds.of(facts)

    assert shuffled == straight
    assert shuffled.facts == straight.facts
    assert sums(shuffled) == sums(straight)


@quick
@given(one=FACTS, other=FACTS, third=FACTS)
def test_what_is_kept_of_a_slot_is_a_join(one: Fact, other: Fact, third: Fact) -> None:
    one, other, third = (
        replace(fact, kind=one.kind, reference="PAY", amount_minor=one.amount_minor)
        for fact in (one, other, third)
    )

    assert one.or_retold(one) == one
    assert one.or_retold(other) == other.or_retold(one)
    assert one.or_retold(other.or_retold(third)) == one.or_retold(other).or_retold(third)


@quick
@given(facts=st.lists(FACTS, min_size=1, max_size=8))
def test_known_fact_changes_nothing(facts: list[Fact]) -> None:
    funds = Funds.of(facts)

    assert all(funds.with_fact(fact) == funds for fact in facts)


@quick
@given(facts=st.lists(FACTS, max_size=8))
def test_facts_survive_json(facts: list[Fact]) -> None:
    funds = Funds.of(facts)
    lines = [json.dumps(fact.as_json()) for fact in funds.facts]

    assert Funds.of(Fact.from_json(json.loads(line)) for line in lines) == funds


@quick
@given(facts=st.lists(FACTS, max_size=10))
def test_no_sum_is_negative(facts: list[Fact]) -> None:
    _status, *amounts, _anomalies = sums(Funds.of(facts))

    assert all(isinstance(amount, int) and amount >= 0 for amount in amounts)


@quick
@given(facts=st.lists(FACTS, max_size=10))
def test_every_authorised_cent_is_captured_released_or_held(facts: list[Fact]) -> None:
    holds = Funds.of([*facts, a_fact(reference="PAY")]).holds

    accounted = [hold.captured + hold.cancelled + hold.held for hold in holds if hold.total]
    assert accounted == [max(hold.authorised, hold.captured) for hold in holds if hold.total]


@quick
@given(facts=st.lists(FACTS, max_size=8), fact=FACTS)
def test_adding_a_fact_leaves_the_funds_before_it_as_they_were(
    facts: list[Fact], fact: Fact
) -> None:
    before = Funds.of(facts)
    listed = before.facts

    before.with_fact(fact)

    assert before.facts == listed
