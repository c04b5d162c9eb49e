"""The status of the money follows from what the PSP said: psp-webhooks.md section 7, as rows."""

import pytest

from app.domain.funds import Fact, FactKind, Funds, FundsStatus
from tests.support.builders import a_fact, later

K, S = FactKind, FundsStatus


def said(kind: FactKind, amount_minor: int = 12500, *, at: float = 60) -> Fact:
    """A fact of a payment's only modification of its kind."""
    reference = {
        K.CAPTURED: "CAP",
        K.CAPTURE_REFUSED: "CAP",
        K.CAPTURE_FAILED: "CAP",
        K.REFUNDED: "REF",
        K.REFUND_REFUSED: "REF",
        K.REFUND_FAILED: "REF",
        K.REFUND_REVERSED: "REF",
        K.CHARGED_BACK: "DIS",
        K.CHARGEBACK_REVERSED: "DIS",
        K.CHARGED_BACK_AGAIN: "DIS",
        K.CANCELLED: "CAN",
        K.CANCEL_REFUSED: "CAN",
        K.ADJUSTED: "ADJ",
        K.UNSPECIFIED_REVERSAL: "REV",
        K.UNSPECIFIED_REVERSAL_REFUSED: "REV",
    }.get(kind, "PAY")
    return a_fact(kind, reference=reference, amount_minor=amount_minor, occurred_at=later(at))


AUTHORISED = said(K.AUTHORISED, at=0)
CAPTURED = said(K.CAPTURED)
DISPUTED = (AUTHORISED, CAPTURED, said(K.CHARGED_BACK))

LIFECYCLE: list[tuple[tuple[Fact, ...], FundsStatus]] = [
    ((), S.NONE),
    ((said(K.PENDING),), S.PENDING),
    ((said(K.PENDING), said(K.REFUSED)), S.REFUSED),
    ((said(K.REFUSED),), S.REFUSED),
    ((AUTHORISED,), S.AUTHORISED),
    ((said(K.PENDING), AUTHORISED), S.AUTHORISED),
    # a success wins over a refusal, whichever is dated later
    ((said(K.REFUSED, at=-5), AUTHORISED), S.AUTHORISED),
    ((said(K.REFUSED, at=5), AUTHORISED), S.AUTHORISED),
    ((said(K.OFFER_CLOSED),), S.EXPIRED),
    ((said(K.OFFER_CLOSED), AUTHORISED), S.AUTHORISED),
    ((AUTHORISED, said(K.ADJUSTED, 15000)), S.AUTHORISED),
    ((AUTHORISED, CAPTURED), S.CAPTURED),
    ((AUTHORISED, said(K.CAPTURED, 5000)), S.PARTIALLY_CAPTURED),
    ((AUTHORISED, said(K.CAPTURE_REFUSED)), S.AUTHORISED),
    # CAPTURE before its AUTHORISATION, which then only fills in the amount
    ((CAPTURED,), S.CAPTURED),
    ((CAPTURED, said(K.AUTHORISED, at=99)), S.CAPTURED),
    ((AUTHORISED, CAPTURED, said(K.CAPTURE_FAILED, at=90)), S.AUTHORISED),
    ((AUTHORISED, CAPTURED, said(K.CAPTURE_FAILED, at=30)), S.CAPTURED),
    ((AUTHORISED, said(K.CANCELLED)), S.CANCELLED),
    ((AUTHORISED, said(K.CANCEL_REFUSED)), S.AUTHORISED),
    ((AUTHORISED, CAPTURED, said(K.CANCELLED, at=90)), S.CAPTURED),
    ((AUTHORISED, said(K.CANCELLED), said(K.CAPTURED, at=90)), S.CAPTURED),
    ((said(K.CANCELLED, at=-5), AUTHORISED), S.AUTHORISED),
    ((AUTHORISED, said(K.EXPIRED)), S.EXPIRED),
    ((AUTHORISED, said(K.CAPTURED, 5000), said(K.EXPIRED, at=90)), S.PARTIALLY_CAPTURED),
    ((AUTHORISED, CAPTURED, said(K.REFUNDED)), S.REFUNDED),
    ((AUTHORISED, CAPTURED, said(K.REFUNDED, 5000)), S.PARTIALLY_REFUNDED),
    ((AUTHORISED, CAPTURED, said(K.REFUND_REFUSED)), S.CAPTURED),
    ((AUTHORISED, CAPTURED, said(K.REFUNDED), said(K.REFUND_FAILED, at=90)), S.CAPTURED),
    ((AUTHORISED, CAPTURED, said(K.REFUND_FAILED), said(K.REFUNDED)), S.CAPTURED),
    ((AUTHORISED, CAPTURED, said(K.REFUNDED), said(K.REFUND_REVERSED, at=90)), S.CAPTURED),
    (DISPUTED, S.CHARGED_BACK),
    ((AUTHORISED, CAPTURED, said(K.CHARGED_BACK, 5000)), S.CHARGED_BACK),
    # a loss twice over: refunded, and charged back all the same
    ((*DISPUTED, said(K.REFUNDED)), S.CHARGED_BACK),
    ((*DISPUTED, said(K.CHARGEBACK_REVERSED)), S.CAPTURED),
    ((AUTHORISED, CAPTURED, said(K.CHARGEBACK_REVERSED)), S.CAPTURED),
    ((*DISPUTED, said(K.CHARGEBACK_REVERSED), said(K.CHARGED_BACK_AGAIN)), S.CHARGED_BACK),
    # an authorisation told again, dated last
    ((AUTHORISED, CAPTURED, said(K.AUTHORISED, at=999)), S.CAPTURED),
    ((AUTHORISED, said(K.CANCELLED), said(K.AUTHORISED, at=999)), S.CANCELLED),
    ((AUTHORISED, said(K.EXPIRED), said(K.AUTHORISED, at=999)), S.EXPIRED),
    # a reversal that does not say what it did
    ((AUTHORISED, said(K.UNSPECIFIED_REVERSAL, at=90)), S.CANCELLED),
    ((AUTHORISED, CAPTURED, said(K.UNSPECIFIED_REVERSAL, at=90)), S.REFUNDED),
    ((AUTHORISED, CAPTURED, said(K.UNSPECIFIED_REVERSAL_REFUSED, at=90)), S.CAPTURED),
    # nothing is held by a check of the card alone
    ((said(K.AUTHORISED, 0),), S.AUTHORISED),
    ((said(K.AUTHORISED, 0), said(K.CANCELLED, 0, at=90)), S.CANCELLED),
]


@pytest.mark.parametrize(("facts", "status"), LIFECYCLE)
def test_every_row_of_the_lifecycle_ends_in_its_status(
    facts: tuple[Fact, ...], status: FundsStatus
) -> None:
    assert Funds.of(facts).status is status


@pytest.mark.parametrize(("facts", "status"), LIFECYCLE)
def test_every_row_ends_alike_read_backwards(facts: tuple[Fact, ...], status: FundsStatus) -> None:
    assert Funds.of(reversed(facts)).status is status


@pytest.mark.parametrize("status", FundsStatus)
def test_every_status_has_a_row(status: FundsStatus) -> None:
    assert status in {expected for _facts, expected in LIFECYCLE}


@pytest.mark.parametrize("kind", FactKind)
def test_every_kind_of_fact_has_a_row(kind: FactKind) -> None:
    assert any(fact.kind is kind for facts, _status in LIFECYCLE for fact in facts)


def test_expiry_of_an_older_attempt_does_not_name_the_release_of_a_newer_one() -> None:
    facts = (said(K.EXPIRED, at=-5), AUTHORISED, said(K.CANCELLED))

    assert Funds.of(facts).status is S.CANCELLED


def test_release_of_one_hold_leaves_the_other_authorised() -> None:
    second = a_fact(K.AUTHORISED, reference="PAY2", occurred_at=later(5))
    cancelled = a_fact(
        K.CANCELLED, reference="CAN", occurred_at=later(60), payment_reference="PAY2"
    )

    assert Funds.of([AUTHORISED, second, cancelled]).status is S.AUTHORISED


def test_a_void_of_what_was_only_refused_releases_nothing() -> None:
    funds = Funds.of(
        [a_fact(FactKind.REFUSED), a_fact(FactKind.CANCELLED, reference="VOID1")],
    )

    assert (funds.status, funds.cancelled) == (FundsStatus.REFUSED, 0)
