"""Each sum of the funds is what contract.md section 5 says it is."""

import pytest

from app.domain.funds import Fact, FactKind, Funds
from tests.support.builders import a_fact, later

K = FactKind


def funds(*facts: Fact) -> Funds:
    return Funds.of(facts)


def a_capture(kind: FactKind = K.CAPTURED, amount_minor: int = 12500, at: float = 60) -> Fact:
    return a_fact(kind, reference="CAP1", amount_minor=amount_minor, occurred_at=later(at))


def a_refund(kind: FactKind = K.REFUNDED, amount_minor: int = 12500, at: float = 120) -> Fact:
    return a_fact(kind, reference="REF1", amount_minor=amount_minor, occurred_at=later(at))


def a_dispute(kind: FactKind, amount_minor: int = 12500, reference: str = "DIS1") -> Fact:
    return a_fact(kind, reference=reference, amount_minor=amount_minor)


def test_adjustment_replaces_the_authorised_total() -> None:
    adjusted = a_fact(K.ADJUSTED, reference="ADJ1", amount_minor=15000, occurred_at=later(5))

    assert funds(a_fact(), adjusted).authorised == 15000


def test_latest_of_two_adjustments_is_the_authorised_total() -> None:
    up = a_fact(K.ADJUSTED, reference="ADJ1", amount_minor=15000, occurred_at=later(5))
    down = a_fact(K.ADJUSTED, reference="ADJ2", amount_minor=9000, occurred_at=later(6))

    assert funds(down, a_fact(), up).authorised == 9000


def test_refused_attempt_takes_nothing_from_an_authorised_one() -> None:
    refused = a_fact(K.REFUSED, reference="OTHER", occurred_at=later(5))

    assert funds(a_fact(), refused).authorised == 12500


def test_captures_add_up() -> None:
    first = a_fact(K.CAPTURED, reference="CAP1", amount_minor=5000)
    second = a_fact(K.CAPTURED, reference="CAP2", amount_minor=2500)

    assert funds(first, second).captured == 7500


def test_refused_capture_is_no_capture() -> None:
    assert funds(a_capture(K.CAPTURE_REFUSED)).captured == 0


def test_failure_undoes_its_capture_and_no_other() -> None:
    other = a_fact(K.CAPTURED, reference="CAP2", amount_minor=2500)

    assert funds(a_capture(), other, a_capture(K.CAPTURE_FAILED, at=90)).captured == 2500


@pytest.mark.parametrize("failed_first", [True, False])
def test_capture_failure_wins_over_an_earlier_capture(*, failed_first: bool) -> None:
    facts = [a_capture(at=60), a_capture(K.CAPTURE_FAILED, at=90)]

    assert Funds.of(reversed(facts) if failed_first else facts).captured == 0


def test_capture_after_the_failure_stands_again() -> None:
    assert funds(a_capture(at=90), a_capture(K.CAPTURE_FAILED, at=60)).captured == 12500


def test_capture_failure_wins_a_tie() -> None:
    assert funds(a_capture(), a_capture(K.CAPTURE_FAILED)).captured == 0


def test_recapture_wins_a_tie_with_its_failure() -> None:
    again = a_fact(K.CAPTURED, reference="CAP1", occurred_at=later(60), is_repeat=True)

    assert funds(again, a_capture(K.CAPTURE_FAILED)).captured == 12500


def test_capture_that_failed_was_recaptured_and_failed_again_does_not_stand() -> None:
    again = a_fact(K.CAPTURED, reference="CAP1", occurred_at=later(90), is_repeat=True)
    failed = a_capture(K.CAPTURE_FAILED, at=60)
    failed_again = a_capture(K.CAPTURE_FAILED, at=99)

    assert funds(failed_again, a_capture(at=30), again, failed).captured == 0


def test_refunds_add_up() -> None:
    first = a_fact(K.REFUNDED, reference="REF1", amount_minor=1000)
    second = a_fact(K.REFUNDED, reference="REF2", amount_minor=500)

    assert funds(a_capture(), first, second).refunded == 1500


@pytest.mark.parametrize("undone", [K.REFUND_FAILED, K.REFUND_REVERSED])
def test_refund_that_failed_or_came_back_is_not_refunded(undone: FactKind) -> None:
    assert funds(a_capture(), a_refund(), a_refund(undone, at=180)).refunded == 0


@pytest.mark.parametrize("undone", [K.REFUND_FAILED, K.REFUND_REVERSED])
def test_refund_failure_before_its_refund_is_sticky(undone: FactKind) -> None:
    assert funds(a_capture(), a_refund(undone), a_refund()).refunded == 0


def test_refused_refund_is_no_refund() -> None:
    assert funds(a_capture(), a_refund(K.REFUND_REFUSED)).refunded == 0


def test_chargeback_takes_its_amount_which_may_be_partial() -> None:
    assert funds(a_capture(), a_dispute(K.CHARGED_BACK, 4000)).charged_back == 4000


def test_chargeback_reversed_is_net_zero_in_any_order() -> None:
    back, again = a_dispute(K.CHARGED_BACK), a_dispute(K.CHARGEBACK_REVERSED)

    assert funds(back, again).charged_back == funds(again, back).charged_back == 0


def test_reversal_alone_waits_for_its_chargeback() -> None:
    assert funds(a_dispute(K.CHARGEBACK_REVERSED)).charged_back == 0


def test_second_chargeback_takes_the_amount_once() -> None:
    dispute = [K.CHARGED_BACK, K.CHARGEBACK_REVERSED, K.CHARGED_BACK_AGAIN]

    assert Funds.of(map(a_dispute, dispute)).charged_back == 12500
    assert funds(a_dispute(K.CHARGED_BACK), a_dispute(K.CHARGED_BACK_AGAIN)).charged_back == 12500


def test_disputes_do_not_answer_for_each_other() -> None:
    won = a_dispute(K.CHARGEBACK_REVERSED, 3000, "DIS2")

    assert funds(a_dispute(K.CHARGED_BACK, 5000), won).charged_back == 5000


def test_cancellation_releases_the_whole_hold() -> None:
    cancelled = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(60))

    assert funds(a_fact(), cancelled).cancelled == 12500


def test_expiry_releases_what_was_not_captured() -> None:
    expired = a_fact(K.EXPIRED, occurred_at=later(999))
    after = funds(a_fact(), a_capture(amount_minor=5000), expired)

    assert (after.captured, after.cancelled, after.held) == (5000, 7500, 0)


def test_refused_cancellation_releases_nothing() -> None:
    after = funds(a_fact(), a_fact(K.CANCEL_REFUSED, reference="CAN1", occurred_at=later(60)))

    assert (after.cancelled, after.held) == (0, 12500)


def test_void_from_before_the_authorisation_releases_nothing_of_it() -> None:
    early = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(-60))
    after = funds(a_fact(), early)

    assert (after.cancelled, after.held) == (0, 12500)


def test_void_at_the_instant_of_the_authorisation_releases_it() -> None:
    assert funds(a_fact(), a_fact(K.CANCELLED, reference="CAN1")).cancelled == 12500


def test_void_tells_what_was_held_while_the_authorisation_is_unknown() -> None:
    void = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(60))

    assert funds(void).cancelled == 12500
    assert funds(void, a_capture(amount_minor=5000)).cancelled == 7500


def test_kept_is_what_was_captured_and_not_given_back() -> None:
    assert funds(a_fact(), a_capture(), a_refund(amount_minor=2500)).kept == 10000


def test_refund_above_the_capture_keeps_nothing_and_never_goes_below() -> None:
    assert funds(a_capture(amount_minor=100), a_refund(amount_minor=900)).kept == 0


def test_capture_above_the_authorisation_holds_nothing_and_never_goes_below() -> None:
    assert funds(a_fact(amount_minor=100), a_capture(amount_minor=900)).held == 0
