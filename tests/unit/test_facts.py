"""One statement of the PSP: the newest of its slot is kept, and it is read back as it was."""

import pytest

from app.domain.funds import Fact, FactKind, Funds
from tests.support.builders import a_fact, later


def test_newest_fact_of_a_slot_wins() -> None:
    old, new = a_fact(amount_minor=100), a_fact(amount_minor=200, occurred_at=later(1))

    assert Funds.of([new, old]).facts == Funds.of([old, new]).facts == [new]


def test_two_references_are_two_slots() -> None:
    facts = [a_fact(FactKind.CAPTURED, reference=reference) for reference in ("CAP1", "CAP2")]

    assert Funds.of(facts).facts == facts


def test_two_kinds_of_one_reference_are_two_slots() -> None:
    captured = a_fact(FactKind.CAPTURED, reference="CAP1")
    failed = a_fact(FactKind.CAPTURE_FAILED, reference="CAP1")

    assert len(Funds.of([captured, failed]).facts) == 2


def test_funds_tell_which_kinds_were_said() -> None:
    funds = Funds.of([a_fact(FactKind.PENDING)])

    assert funds.has(FactKind.AUTHORISED, FactKind.PENDING)
    assert not funds.has(FactKind.AUTHORISED)


@pytest.mark.parametrize("amount", ["100", 1.0, None])
def test_fact_whose_amount_is_no_integer_is_not_read(amount: object) -> None:
    with pytest.raises(TypeError, match="amount_minor"):
        Fact.from_json(a_fact().as_json() | {"amount_minor": amount})


def test_fact_of_an_unknown_kind_is_not_read() -> None:
    with pytest.raises(ValueError, match="dreamt"):
        Fact.from_json(a_fact().as_json() | {"kind": "dreamt"})
