"""One statement of the PSP: which telling of it is kept, and that it is read back as it was."""

import pytest

from app.domain.facts import KEPT, Fact, FactKind, Kept
from app.domain.funds import Funds
from tests.support.builders import a_fact, later

ONCE = [kind for kind, kept in KEPT.items() if kept is Kept.FIRST]
AGAIN = [kind for kind, kept in KEPT.items() if kept is Kept.LAST]


def test_every_kind_says_which_telling_is_kept() -> None:
    assert set(KEPT) == set(FactKind)


@pytest.mark.parametrize("kind", ONCE)
def test_what_happens_once_keeps_the_date_when_it_was_first_told(kind: FactKind) -> None:
    first, again = a_fact(kind), a_fact(kind, occurred_at=later(1))

    assert Funds.of([again, first]).facts == Funds.of([first, again]).facts == [first]


@pytest.mark.parametrize("kind", ONCE)
def test_what_happens_once_is_another_statement_if_its_amount_is_another(kind: FactKind) -> None:
    one, other = a_fact(kind, amount_minor=100), a_fact(kind, amount_minor=200)

    assert Funds.of([other, one]).facts == [one, other]


@pytest.mark.parametrize("kind", AGAIN)
def test_newest_telling_is_kept_of_what_may_be_done_again(kind: FactKind) -> None:
    old, new = a_fact(kind, amount_minor=200), a_fact(kind, amount_minor=100, occurred_at=later(1))

    assert Funds.of([new, old]).facts == Funds.of([old, new]).facts == [new]


@pytest.mark.parametrize("kind", FactKind)
def test_fact_that_is_known_makes_no_new_funds(kind: FactKind) -> None:
    funds = Funds.of([a_fact(kind)])

    assert funds.with_fact(a_fact(kind)) is funds


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


def test_funds_tell_of_which_references_they_know() -> None:
    funds = Funds.of([a_fact(FactKind.CAPTURED, reference="CAP1")])

    assert funds.tells_of("CAP1")
    assert funds.tells_of("CAP1", FactKind.CAPTURED, FactKind.EXPIRED)
    assert not funds.tells_of("CAP1", FactKind.CAPTURE_FAILED)
    assert not funds.tells_of("CAP2")


def test_fact_that_names_its_payment_is_read_back() -> None:
    fact = a_fact(FactKind.CAPTURED, reference="CAP1", payment_reference="PAY1")

    assert Fact.from_json(fact.as_json()) == fact


def test_fact_that_was_stored_before_payments_were_named_is_read_and_written_as_it_was() -> None:
    stored = {
        "kind": "captured",
        "reference": "CAP1",
        "amount_minor": 12500,
        "occurred_at": "2026-11-20T09:00:00+00:00",
        "is_repeat": False,
    }

    fact = Fact.from_json(stored)

    assert fact.payment_reference is None
    assert fact.as_json() == stored


@pytest.mark.parametrize("amount", ["100", 1.0, None])
def test_fact_whose_amount_is_no_integer_is_not_read(amount: object) -> None:
    with pytest.raises(TypeError, match="amount_minor"):
        Fact.from_json(a_fact().as_json() | {"amount_minor": amount})


def test_fact_of_an_unknown_kind_is_not_read() -> None:
    with pytest.raises(ValueError, match="dreamt"):
        Fact.from_json(a_fact().as_json() | {"kind": "dreamt"})
