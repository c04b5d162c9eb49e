"""The simulator's money rules and its table of triggers, without I/O."""

from dataclasses import replace

import pytest

from simulator.payments import (
    CANCEL_REFUSED,
    CANCELLED,
    CAPTURED,
    INSUFFICIENT,
    OTHER_CURRENCY,
    Amount,
    Payment,
    cancel,
    capture,
    refund,
    reverse,
)
from simulator.triggers import TRIGGERS, Behaviour, Reply, behaviour_of


def a_payment(**changes: int | str | bool) -> Payment:
    payment = Payment(
        psp_reference="PSP",
        merchant_account="M",
        merchant_reference="ORDER-1",
        payment_method="scheme",
        holder_name="S Hopper",
        currency="EUR",
        requested=1000,
        authorised=1000,
    )
    return replace(payment, **changes)  # type: ignore[arg-type]  # a builder's free choice


def euros(value: int) -> Amount:
    return Amount(value, "EUR")


def test_partial_captures_add_up_to_what_is_authorised_and_no_further() -> None:
    once = capture(a_payment(), euros(600))
    rest = capture(once.after, euros(400))
    over = capture(rest.after, euros(1))

    assert (once.after.captured, rest.after.captured) == (600, 1000)
    assert (over.reason, over.after.captured) == (INSUFFICIENT, 1000)


def test_a_cancelled_payment_cannot_be_captured() -> None:
    assert capture(cancel(a_payment()).after, euros(1)).reason == CANCELLED


def test_a_payment_cannot_be_captured_in_another_currency() -> None:
    assert capture(a_payment(), Amount(1, "USD")).reason == OTHER_CURRENCY


def test_cancelling_releases_the_hold_once() -> None:
    once = cancel(a_payment())
    twice = cancel(once.after)

    assert (once.is_success, once.after.cancelled) == (True, 1000)
    assert (twice.reason, twice.after.cancelled) == (CANCELLED, 1000)


def test_a_captured_payment_cannot_be_cancelled() -> None:
    assert cancel(a_payment(captured=1)).reason == CAPTURED


def test_refunds_add_up_to_what_is_captured_and_no_further() -> None:
    once = refund(a_payment(captured=500), euros(500))
    over = refund(once.after, euros(1))

    assert once.after.refunded == 500
    assert over.reason == INSUFFICIENT


def test_a_reversal_cancels_a_hold_and_refunds_the_rest_of_a_capture() -> None:
    held = reverse(a_payment())
    taken = reverse(a_payment(captured=1000, refunded=300))

    assert (held.action, held.after.cancelled) == ("cancel", 1000)
    assert (taken.action, taken.amount, taken.after.refunded) == ("refund", 700, 1000)


def test_cancel_failed_refuses_cancels_and_reversals_for_good() -> None:
    payment = a_payment(holder_name="Cancel Failed")

    assert cancel(payment).reason == CANCEL_REFUSED
    assert reverse(payment).reason == CANCEL_REFUSED


@pytest.mark.parametrize("word", TRIGGERS)
def test_every_trigger_works_anywhere_in_the_name_and_in_any_case(word: str) -> None:
    assert behaviour_of(f"Mx {word.lower()} Jr") != Behaviour()


def test_a_name_without_a_trigger_asks_for_nothing() -> None:
    assert behaviour_of("S Hopper") == Behaviour()


def test_several_triggers_in_one_name_add_up() -> None:
    behaviour = behaviour_of("PSP TIMEOUT LATE WEBHOOK")

    assert behaviour.reply is Reply.NEVER
    assert behaviour.delays(20.0) == (20.0,)
