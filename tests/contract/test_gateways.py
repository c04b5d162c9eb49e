"""One suite for the outside services' fakes and for the real gateways against the simulator.

What the fakes promise to other tests, the real services keep: the same key acts once, a yes is a
yes and a no is a no (F4).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count

import pytest

from app.domain.payment import Payment
from app.errors import GatewayInProgress, GatewayRejected, GatewayUnavailable
from app.services.ports import Gateways, PspAnswer
from tests.support.builders import EUR_125, a_payment, numbered_id
from tests.support.service import at_once
from tests.support.simulator import Simulator, a_simulator, hang_up
from tests.support.stage import Stage, fake_stage, real_stage

_numbers = count(1)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with a_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture(scope="module")
def real_gateways(simulator: Simulator) -> Iterator[Gateways]:
    gateways = simulator.participants()
    yield gateways
    hang_up(gateways)


@pytest.fixture(params=["fake", "real"])
def stage(request: pytest.FixtureRequest) -> Stage:
    if request.param == "fake":
        return fake_stage()
    return real_stage(
        request.getfixturevalue("simulator"), request.getfixturevalue("real_gateways")
    )


def new_payment(
    stage: Stage,
    *,
    holder: str = "S Hopper",
    email: str = "s.hopper@example.com",
    booking: str = "BK-1",
) -> Payment:
    number = next(_numbers)
    payment = replace(
        a_payment(payment_id=numbered_id(number)),
        merchant_reference=f"CONTRACT-{number}",
        details={
            "payment_method": {"type": "scheme", "holder_name": holder},
            "shopper": {"email": email},
            "booking": {"reference": booking},
        },
    )
    stage.prepare(payment)
    return payment


def key(payment: Payment, what: str) -> str:
    return f"{payment.merchant_reference}-{what}"


def authorised(stage: Stage) -> Payment:
    payment = new_payment(stage)
    answer = stage.gateways.psp.authorise(payment, idempotency_key=key(payment, "authorise"))
    return replace(payment, psp_reference=answer.psp_reference)


def test_an_authorisation_is_answered_with_a_reference(stage: Stage) -> None:
    payment = new_payment(stage)

    answer = stage.gateways.psp.authorise(payment, idempotency_key=key(payment, "a"))

    assert answer.result == "Authorised"
    assert answer.psp_reference
    assert stage.effects(payment, "authorise") == 1


def test_a_declined_authorisation_is_an_answer_not_an_error(stage: Stage) -> None:
    payment = new_payment(stage, holder="DECLINED")

    answer = stage.gateways.psp.authorise(payment, idempotency_key=key(payment, "a"))

    assert answer.result == "Refused"


def test_the_same_key_authorises_once_and_answers_alike(stage: Stage) -> None:
    payment = new_payment(stage)

    answers = {
        stage.gateways.psp.authorise(payment, idempotency_key=key(payment, "a")) for _ in range(3)
    }

    assert len(answers) == 1
    assert stage.effects(payment, "authorise") == 1


def test_the_same_key_captures_and_refunds_once(stage: Stage) -> None:
    payment, psp = authorised(stage), stage.gateways.psp

    captures = {psp.capture(payment, EUR_125, idempotency_key=key(payment, "c")) for _ in range(2)}
    refunds = {psp.refund(payment, EUR_125, idempotency_key=key(payment, "r")) for _ in range(2)}

    assert [answer.result for answer in (*captures, *refunds)] == ["received"] * 2
    assert stage.effects(payment, "capture") == stage.effects(payment, "refund") == 1


def test_the_same_key_voids_once(stage: Stage) -> None:
    payment, psp = authorised(stage), stage.gateways.psp

    answers = {psp.cancel(payment, idempotency_key=key(payment, "void")) for _ in range(2)}

    assert {answer.result for answer in answers} == {"received"}
    assert stage.effects(payment, "void") == 1


def test_a_payment_without_reference_can_be_voided(stage: Stage) -> None:
    payment = new_payment(stage)

    answer = stage.gateways.psp.cancel(payment, idempotency_key=key(payment, "void"))

    assert answer.result == "received"


def test_a_reversal_is_received(stage: Stage) -> None:
    payment = authorised(stage)

    answer = stage.gateways.psp.reverse(payment, idempotency_key=key(payment, "reverse"))

    assert answer.result == "received"


def test_the_same_key_confirms_a_booking_once(stage: Stage) -> None:
    payment = new_payment(stage)

    verdicts = [
        stage.gateways.booking.confirm(payment, idempotency_key=key(payment, "confirm"))
        for _ in range(2)
    ]

    assert [verdict.is_yes for verdict in verdicts] == [True, True]
    assert stage.effects(payment, "confirm") == 1


def test_a_refused_booking_is_a_no(stage: Stage) -> None:
    payment = new_payment(stage, booking="FAIL-1")

    verdict = stage.gateways.booking.confirm(payment, idempotency_key=key(payment, "confirm"))

    assert not verdict.is_yes


def test_a_booking_can_be_cancelled_whether_or_not_it_was_confirmed(stage: Stage) -> None:
    payment = new_payment(stage)

    verdicts = [
        stage.gateways.booking.cancel(payment, idempotency_key=key(payment, "unbook"))
        for _ in range(2)
    ]

    assert [verdict.is_yes for verdict in verdicts] == [True, True]
    assert stage.effects(payment, "unbook") == 1


@pytest.mark.parametrize(("email", "is_yes"), [("s@example.com", True), ("fraud@x.com", False)])
def test_the_fraud_check_says_yes_or_no(stage: Stage, email: str, *, is_yes: bool) -> None:
    payment = new_payment(stage, email=email)

    verdict = stage.gateways.fraud.check(payment, idempotency_key=key(payment, "check"))

    assert verdict.is_yes is is_yes


@pytest.mark.parametrize(("email", "sent"), [("s@example.com", 1), ("bounce@x.com", 0)])
def test_a_mail_is_sent_or_refused(stage: Stage, email: str, sent: int) -> None:
    payment = new_payment(stage, email=email)

    verdict = stage.gateways.mail.send_confirmation(payment)

    assert verdict.is_yes is bool(sent)
    if sent:
        assert stage.effects(payment, "send") == 1


def test_a_booking_service_that_is_down_for_a_moment_is_asked_again_within_the_call(
    simulator: Simulator, real_gateways: Gateways
) -> None:
    stage = real_stage(simulator, real_gateways)
    payment = new_payment(stage, booking="FLAKY-1")

    verdict = real_gateways.booking.confirm(payment, idempotency_key=key(payment, "confirm"))

    assert verdict.is_yes
    assert stage.effects(payment, "confirm") == 1


def test_a_psp_that_stays_down_is_unavailable_and_works_later_under_the_same_key(
    simulator: Simulator, real_gateways: Gateways
) -> None:
    stage = real_stage(simulator, real_gateways)
    payment = new_payment(stage, holder="PSP DOWN")

    with pytest.raises(GatewayUnavailable, match="503"):
        real_gateways.psp.authorise(payment, idempotency_key=key(payment, "a"))
    answer = real_gateways.psp.authorise(payment, idempotency_key=key(payment, "a"))

    assert answer.result == "Authorised"
    assert stage.effects(payment, "authorise") == 1


def test_two_requests_at_once_under_one_key_authorise_once(
    simulator: Simulator, real_gateways: Gateways
) -> None:
    stage = real_stage(simulator, real_gateways)
    payment = new_payment(stage)

    def ask_until_answered() -> PspAnswer:
        for _call in range(100):
            with suppress(GatewayInProgress):
                return real_gateways.psp.authorise(payment, idempotency_key=key(payment, "a"))
        raise AssertionError("it was never answered")

    answers = at_once([ask_until_answered] * 4)

    assert len(set(answers)) == 1
    assert stage.effects(payment, "authorise") == 1


def test_the_real_psp_rejects_a_modification_of_no_payment(real_gateways: Gateways) -> None:
    payment = replace(a_payment(), psp_reference="8816000000000000")

    with pytest.raises(GatewayRejected, match="167"):
        real_gateways.psp.capture(payment, EUR_125, idempotency_key="no-payment")
