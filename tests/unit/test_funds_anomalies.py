"""What the PSP says and what can't be right: believed, and shown to a person."""

import pytest

from app.domain.anomalies import anomalies
from app.domain.funds import Fact, FactKind, Funds
from app.domain.money import AMOUNT_MINOR_MAX
from tests.support.builders import a_fact, later

K = FactKind


def a_capture(amount_minor: int = 12500, at: float = 60) -> Fact:
    return a_fact(K.CAPTURED, reference="CAP1", amount_minor=amount_minor, occurred_at=later(at))


def a_refund(amount_minor: int = 12500) -> Fact:
    return a_fact(K.REFUNDED, reference="REF1", amount_minor=amount_minor, occurred_at=later(120))


def a_cancellation(at: float = 90, kind: FactKind = K.CANCELLED) -> Fact:
    return a_fact(kind, reference="CAN1", occurred_at=later(at))


def a_chargeback(kind: FactKind = K.CHARGED_BACK) -> Fact:
    return a_fact(kind, reference="DIS1", occurred_at=later(500))


SECOND = a_fact(reference="PAY2", amount_minor=10000, occurred_at=later(5))

ANOMALOUS: dict[str, tuple[tuple[Fact, ...], tuple[str, int]]] = {
    "authorised twice": ((a_fact(), SECOND), ("DUPLICATE_PSP", 10000)),
    "refunded beyond the capture": (
        (a_fact(), a_capture(5000), a_refund(7000)),
        ("OVER_REFUNDED", 2000),
    ),
    "refunded beyond the authorisation, of captures that are not told": (
        (a_fact(), a_refund(13000)),
        ("OVER_REFUNDED", 500),
    ),
    "refunded and charged back": (
        (a_fact(), a_capture(), a_refund(), a_chargeback()),
        ("OVER_REFUNDED", 12500),
    ),
    "refunded and charged back, of captures that are not told": (
        (a_fact(), a_refund(), a_chargeback()),
        ("OVER_REFUNDED", 12500),
    ),
    "captured after the cancellation": (
        (a_fact(), a_cancellation(at=30), a_capture(5000)),
        ("STATUS_MISMATCH", 5000),
    ),
    "cancelled after the whole capture": (
        (a_fact(), a_capture(), a_cancellation()),
        ("STATUS_MISMATCH", 12500),
    ),
    "captured after a reversal that did not say what it did": (
        (a_fact(), a_cancellation(at=30, kind=K.UNSPECIFIED_REVERSAL), a_capture()),
        ("STATUS_MISMATCH", 12500),
    ),
}

ORDINARY: dict[str, tuple[Fact, ...]] = {
    "nothing": (),
    "an authorisation told again": (a_fact(), a_fact(occurred_at=later(999))),
    "a refused attempt, then another": (a_fact(K.REFUSED, reference="PAY2"), a_fact()),
    "an adjustment that overtook its authorisation": (
        a_fact(),
        a_fact(K.ADJUSTED, reference="ADJ1", payment_reference="PAY2"),
    ),
    "a refund": (a_fact(), a_capture(), a_refund()),
    "a refund before its capture": (a_fact(), a_refund()),
    "a refund of a payment that is not known": (a_refund(),),
    "a chargeback that came back": (
        a_fact(),
        a_capture(),
        a_refund(),
        a_chargeback(),
        a_chargeback(K.CHARGEBACK_REVERSED),
    ),
    "the rest of a partial capture is cancelled": (a_fact(), a_capture(5000), a_cancellation()),
    "the rest of a partial capture expires": (
        a_fact(),
        a_capture(5000),
        a_fact(K.EXPIRED, occurred_at=later(90)),
    ),
    "a whole capture expires": (a_fact(), a_capture(), a_fact(K.EXPIRED, occurred_at=later(90))),
    "a reversal of a capture": (a_fact(), a_capture(), a_cancellation(kind=K.UNSPECIFIED_REVERSAL)),
    "a cancellation while the authorisation is unknown": (a_capture(5000), a_cancellation()),
}


@pytest.mark.parametrize(("facts", "expected"), ANOMALOUS.values(), ids=ANOMALOUS)
def test_what_can_not_be_right_is_named_with_its_amount(
    facts: tuple[Fact, ...], expected: tuple[str, int]
) -> None:
    assert anomalies(Funds.of(facts)) == {expected}


@pytest.mark.parametrize("facts", ORDINARY.values(), ids=ORDINARY)
def test_what_happens_every_day_is_no_anomaly(facts: tuple[Fact, ...]) -> None:
    assert anomalies(Funds.of(facts)) == set()


def test_amount_at_stake_is_an_amount_of_money_however_much_was_told() -> None:
    refunds = [
        a_fact(K.REFUNDED, reference=reference, amount_minor=AMOUNT_MINOR_MAX)
        for reference in ("REF1", "REF2", "REF3")
    ]

    assert anomalies(Funds.of([a_fact(), *refunds])) == {("OVER_REFUNDED", AMOUNT_MINOR_MAX)}
