"""Each sum of the funds is what contract.md section 5 says it is."""

from dataclasses import replace

import pytest

from app.domain.funds import Fact, FactKind, Funds
from tests.support.builders import PSP_REFERENCE, a_fact, later

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


def test_void_at_the_instant_of_the_authorisation_releases_it_if_it_names_it() -> None:
    """F31: of one second, a void by our own reference may have overtaken the authorisation."""
    by_its_reference = a_fact(K.CANCELLED, reference="CAN1", payment_reference=a_fact().reference)
    by_ours = a_fact(K.CANCELLED, reference="CAN1")

    assert funds(a_fact(), by_its_reference).held == 0
    assert funds(a_fact(), by_ours).held == 12500


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


def told_later(fact: Fact) -> Fact:
    """The same statement, redelivered with the latest date of all."""
    return replace(fact, occurred_at=later(9999))


def test_authorisation_told_again_undoes_no_adjustment() -> None:
    adjusted = a_fact(K.ADJUSTED, reference="ADJ1", amount_minor=15000, occurred_at=later(5))

    assert funds(a_fact(), adjusted, told_later(a_fact())).authorised == 15000


def test_adjustment_counts_whatever_the_date_of_its_authorisation() -> None:
    adjusted = a_fact(K.ADJUSTED, reference="ADJ1", amount_minor=15000, occurred_at=later(5))

    assert funds(adjusted, told_later(a_fact())).authorised == 15000


def test_adjustment_told_again_undoes_no_newer_one() -> None:
    up = a_fact(K.ADJUSTED, reference="ADJ1", amount_minor=15000, occurred_at=later(5))
    down = a_fact(K.ADJUSTED, reference="ADJ2", amount_minor=9000, occurred_at=later(6))

    assert funds(a_fact(), up, down, told_later(up)).authorised == 9000


@pytest.mark.parametrize("release", [K.CANCELLED, K.EXPIRED])
def test_authorisation_told_again_undoes_no_release(release: FactKind) -> None:
    released = a_fact(release, occurred_at=later(60))
    after = funds(a_fact(), released, told_later(a_fact()))

    assert (after.cancelled, after.held) == (12500, 0)


def test_void_told_again_releases_no_later_authorisation() -> None:
    early = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(-60))

    assert funds(early, a_fact(), told_later(early)).held == 12500


def test_of_two_amounts_under_one_reference_the_later_is_authorised_from_the_first_date_on() -> (
    None
):
    more = a_fact(amount_minor=15000, occurred_at=later(90))
    released = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(60))

    assert funds(a_fact(), more).authorised == 15000
    assert funds(a_fact(), more, told_later(a_fact())).authorised == 15000
    assert funds(a_fact(), released, more).held == 0


def test_last_word_on_a_capture_holds() -> None:
    yes, no = a_capture(at=60), a_capture(K.CAPTURE_REFUSED, at=90)

    assert funds(yes, no).captured == 0
    assert funds(yes, no, told_later(yes)).captured == 12500


def test_last_word_on_a_refund_holds() -> None:
    yes, no = a_refund(at=60), a_refund(K.REFUND_REFUSED, at=90)

    assert funds(yes, no).refunded == 0
    assert funds(yes, no, told_later(yes)).refunded == 12500


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        (a_capture(), a_capture(K.CAPTURE_REFUSED)),
        (a_refund(at=60), a_refund(K.REFUND_REFUSED, at=60)),
    ],
)
def test_of_two_answers_at_one_instant_the_yes_stands(yes: Fact, no: Fact) -> None:
    after = funds(yes, no)

    assert after.captured + after.refunded == 12500


def test_refund_dated_after_its_failure_stands() -> None:
    assert funds(a_capture(), a_refund(K.REFUND_FAILED, at=60), a_refund(at=90)).refunded == 12500


def test_chargeback_reversed_in_part_takes_the_rest() -> None:
    assert (
        funds(a_dispute(K.CHARGED_BACK, 5000), a_dispute(K.CHARGEBACK_REVERSED, 3000)).charged_back
        == 2000
    )


def test_amounts_of_one_dispute_are_never_added() -> None:
    again = a_dispute(K.CHARGED_BACK_AGAIN, 13500)  # the fee of an arbitration included

    assert funds(a_dispute(K.CHARGED_BACK), again).charged_back == 13500


def a_reversal(at: float = 120, reference: str = "REV1") -> Fact:
    return a_fact(K.UNSPECIFIED_REVERSAL, reference=reference, occurred_at=later(at))


def test_reversal_that_does_not_say_what_it_did_releases_what_is_held() -> None:
    after = funds(a_fact(), a_reversal())

    assert (after.cancelled, after.refunded, after.held) == (12500, 0, 0)


def test_reversal_that_does_not_say_what_it_did_refunds_what_was_captured() -> None:
    after = funds(a_reversal(), a_capture(), a_fact())

    assert (after.cancelled, after.refunded, after.kept) == (0, 12500, 0)


def test_reversal_makes_no_refund_that_is_told_smaller() -> None:
    assert funds(a_reversal(), a_refund(amount_minor=5000)).refunded == 5000


@pytest.mark.parametrize("undone", [K.REFUND_FAILED, K.REFUND_REVERSED])
def test_reversal_that_failed_gave_nothing_back(undone: FactKind) -> None:
    failed = a_fact(undone, reference="REV1", occurred_at=later(180))

    assert funds(a_fact(), a_capture(), a_reversal(), failed).refunded == 0


@pytest.mark.parametrize(("told", "refunded"), [(K.CANCELLED, 0), (K.REFUNDED, 5000)])
def test_reversal_did_what_is_told_of_it_later(told: FactKind, refunded: int) -> None:
    specific = a_fact(told, reference="REV1", amount_minor=5000, occurred_at=later(130))

    assert funds(a_fact(), a_capture(), a_reversal(), specific).refunded == refunded


def test_refused_reversal_moves_nothing() -> None:
    after = funds(a_fact(), a_fact(K.UNSPECIFIED_REVERSAL_REFUSED, reference="REV1"))

    assert (after.cancelled, after.held) == (0, 12500)


def test_capture_after_a_refusal_proves_the_hold_that_a_cancellation_released() -> None:
    refused, cancelled = a_fact(K.REFUSED), a_fact(K.CANCELLED, reference="CAN1")

    assert funds(refused, a_capture(amount_minor=5000), cancelled).cancelled == 7500


#: The PSP authorised the payment a second time, under a reference of its own.
SECOND = a_fact(reference="PAY2", amount_minor=10000, occurred_at=later(5))


def of(payment_reference: str, fact: Fact) -> Fact:
    return replace(fact, payment_reference=payment_reference)


def a_cancellation(amount_minor: int = 12500) -> Fact:
    return a_fact(K.CANCELLED, reference="CAN1", amount_minor=amount_minor, occurred_at=later(60))


def test_second_hold_is_held_too_and_the_latest_total_is_authorised() -> None:
    after = funds(SECOND, a_fact())

    assert (after.held, after.authorised) == (22500, 10000)


def test_release_of_one_hold_leaves_the_other() -> None:
    after = funds(a_fact(), SECOND, of("PAY2", a_cancellation()))

    assert (after.held, after.cancelled) == (12500, 10000)


def test_void_by_our_reference_releases_every_hold() -> None:
    after = funds(a_fact(), SECOND, a_cancellation(amount_minor=0))

    assert (after.held, after.cancelled) == (0, 22500)


def test_expiry_of_one_hold_leaves_the_other() -> None:
    after = funds(a_fact(), SECOND, a_fact(K.EXPIRED, reference="PAY2", occurred_at=later(999)))

    assert (after.held, after.cancelled) == (12500, 10000)


def test_expiry_under_a_reference_of_its_own_releases_the_payment_that_it_names() -> None:
    expired = of(PSP_REFERENCE, a_fact(K.EXPIRED, reference="EXP1", occurred_at=later(999)))

    assert funds(a_fact(), expired).held == 0


def test_capture_of_one_hold_takes_nothing_from_the_other() -> None:
    after = funds(a_fact(), SECOND, of("PAY2", a_capture(amount_minor=10000)))

    assert (after.captured, after.held) == (10000, 12500)


def test_adjustment_of_one_hold_leaves_the_other() -> None:
    up = a_fact(K.ADJUSTED, reference="ADJ1", amount_minor=15000, occurred_at=later(9))
    after = funds(a_fact(), SECOND, of("PAY2", up))

    assert (after.held, after.authorised) == (27500, 15000)


def test_reversal_of_one_hold_leaves_the_other() -> None:
    after = funds(a_fact(), SECOND, of("PAY2", a_capture(amount_minor=10000)))
    reversed_ = after.with_fact(of("PAY2", a_reversal()))

    assert (reversed_.held, reversed_.refunded) == (12500, 10000)


def test_statement_that_names_no_payment_is_about_the_first_hold() -> None:
    [first, second] = funds(SECOND, a_capture(), a_fact()).holds

    assert (first.authorised, first.captured) == (12500, 12500)
    assert (second.authorised, second.captured) == (10000, 0)


def test_first_hold_is_the_one_that_was_authorised_first_whatever_its_name() -> None:
    second = replace(SECOND, reference="0001")

    [first, _second] = funds(second, a_capture(), a_fact()).holds

    assert (first.authorised, first.captured) == (12500, 12500)


def test_release_that_names_a_payment_not_yet_authorised_tells_what_was_held() -> None:
    after = funds(a_fact(), of("PAY2", a_cancellation(amount_minor=10000)))

    assert (after.held, after.cancelled) == (12500, 10000)
