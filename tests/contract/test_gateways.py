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
from app.domain.saga import Reply, Request
from app.errors import GatewayInProgress, GatewayRejected, GatewayUnavailable
from app.sagas import booking
from app.services.ports import Participants
from tests.support.builders import EUR_125, a_command, a_payment, numbered_id
from tests.support.service import at_once
from tests.support.simulator import Simulator, a_simulator, hang_up
from tests.support.stage import Stage, fake_stage, real_stage

_numbers = count(1)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with a_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture(scope="module")
def real_participants(simulator: Simulator) -> Iterator[Participants]:
    participants = simulator.participants()
    yield participants
    hang_up(participants)


@pytest.fixture(params=["fake", "real"])
def stage(request: pytest.FixtureRequest) -> Stage:
    if request.param == "fake":
        return fake_stage()
    return real_stage(
        request.getfixturevalue("simulator"), request.getfixturevalue("real_participants")
    )


def new_payment(
    stage: Stage,
    *,
    holder: str = "S Hopper",
    email: str = "s.hopper@example.com",
    reference: str = "BK-1",
) -> Payment:
    number = next(_numbers)
    payment = replace(
        a_payment(payment_id=numbered_id(number)),
        merchant_reference=f"CONTRACT-{number}",
        details={
            "payment_method": {"type": "scheme", "holder_name": holder},
            "shopper": {"email": email},
            "booking": {"reference": reference},
        },
    )
    stage.prepare(payment)
    return payment


def ask(stage: Stage, payment: Payment, request: Request) -> Reply:
    """Send a request as the saga does: one key for each payment and operation."""
    key = f"{payment.merchant_reference}-{request.operation}"
    return stage.participants[request.service_id].handle(a_command(request, key=key))


def authorised(stage: Stage) -> Payment:
    payment = new_payment(stage)
    reply = ask(stage, payment, booking.authorise(payment))
    return replace(payment, psp_reference=str(reply.data["psp_reference"]))


def give_back(payment: Payment, operation: str) -> Request:
    about: dict[str, object] = {"merchant_reference": payment.merchant_reference}
    if payment.psp_reference is not None:
        about = {"psp_reference": payment.psp_reference}
    if operation == "refund":
        about |= {"amount_minor": EUR_125.amount_minor, "currency": EUR_125.currency}
    return Request(service_id="psp", operation=operation, data=about)


def test_an_authorisation_is_answered_with_a_reference(stage: Stage) -> None:
    payment = new_payment(stage)

    reply = ask(stage, payment, booking.authorise(payment))

    assert (reply.success, reply.data["result"]) == (True, "Authorised")
    assert reply.data["psp_reference"]
    assert stage.effects(payment, "authorise") == 1


def test_a_declined_authorisation_is_an_answer_not_an_error(stage: Stage) -> None:
    payment = new_payment(stage, holder="DECLINED")

    reply = ask(stage, payment, booking.authorise(payment))

    assert (reply.success, reply.data["result"]) == (True, "Refused")


def test_the_same_key_authorises_once_and_answers_alike(stage: Stage) -> None:
    payment = new_payment(stage)

    replies = [ask(stage, payment, booking.authorise(payment)) for _ in range(3)]

    assert replies[0] == replies[1] == replies[2]
    assert stage.effects(payment, "authorise") == 1


def test_the_same_key_captures_and_refunds_once(stage: Stage) -> None:
    payment = authorised(stage)

    captures = [ask(stage, payment, booking.capture(payment)) for _ in range(2)]
    refunds = [ask(stage, payment, give_back(payment, "refund")) for _ in range(2)]

    assert captures[0] == captures[1]
    assert refunds[0] == refunds[1]
    assert [reply.data["result"] for reply in (captures[0], refunds[0])] == ["received"] * 2
    assert stage.effects(payment, "capture") == stage.effects(payment, "refund") == 1


def test_the_same_key_voids_once(stage: Stage) -> None:
    payment = authorised(stage)

    replies = [ask(stage, payment, give_back(payment, "cancel")) for _ in range(2)]

    assert [reply.data["result"] for reply in replies] == ["received"] * 2
    assert stage.effects(payment, "void") == 1


def test_a_payment_without_reference_can_be_voided(stage: Stage) -> None:
    payment = new_payment(stage)

    reply = ask(stage, payment, give_back(payment, "cancel"))

    assert (reply.success, reply.data["result"]) == (True, "received")


def test_a_reversal_is_received(stage: Stage) -> None:
    payment = authorised(stage)

    reply = ask(stage, payment, give_back(payment, "reverse"))

    assert reply.data["result"] == "received"


def test_the_same_key_confirms_a_booking_once(stage: Stage) -> None:
    payment = new_payment(stage)

    replies = [ask(stage, payment, booking.confirm_booking(payment)) for _ in range(2)]

    assert [reply.success for reply in replies] == [True, True]
    assert stage.effects(payment, "confirm") == 1


def test_a_refused_booking_is_a_no(stage: Stage) -> None:
    payment = new_payment(stage, reference="FAIL-1")

    assert not ask(stage, payment, booking.confirm_booking(payment)).success


def test_a_booking_can_be_cancelled_whether_or_not_it_was_confirmed(stage: Stage) -> None:
    payment = new_payment(stage)

    replies = [ask(stage, payment, booking.cancel_booking(payment, {})) for _ in range(2)]

    assert [reply.success for reply in replies] == [True, True]
    assert stage.effects(payment, "unbook") == 1


@pytest.mark.parametrize(("email", "is_yes"), [("s@example.com", True), ("fraud@x.com", False)])
def test_the_fraud_check_says_yes_or_no(stage: Stage, email: str, *, is_yes: bool) -> None:
    payment = new_payment(stage, email=email)

    assert ask(stage, payment, booking.check_fraud(payment)).success is is_yes


@pytest.mark.parametrize(("email", "sent"), [("s@example.com", 1), ("bounce@x.com", 0)])
def test_a_mail_is_sent_or_refused(stage: Stage, email: str, sent: int) -> None:
    payment = new_payment(stage, email=email)

    reply = ask(stage, payment, booking.send_confirmation(payment))

    assert reply.success is bool(sent)
    if sent:
        assert stage.effects(payment, "send") == 1


def test_a_booking_service_that_is_down_for_a_moment_is_asked_again_within_the_call(
    simulator: Simulator, real_participants: Participants
) -> None:
    stage = real_stage(simulator, real_participants)
    payment = new_payment(stage, reference="FLAKY-1")

    reply = ask(stage, payment, booking.confirm_booking(payment))

    assert reply.success
    assert stage.effects(payment, "confirm") == 1


def test_a_psp_that_stays_down_is_unavailable_and_works_later_under_the_same_key(
    simulator: Simulator, real_participants: Participants
) -> None:
    stage = real_stage(simulator, real_participants)
    payment = new_payment(stage, holder="PSP DOWN")

    with pytest.raises(GatewayUnavailable, match="503"):
        ask(stage, payment, booking.authorise(payment))
    reply = ask(stage, payment, booking.authorise(payment))

    assert reply.data["result"] == "Authorised"
    assert stage.effects(payment, "authorise") == 1


def test_two_requests_at_once_under_one_key_authorise_once(
    simulator: Simulator, real_participants: Participants
) -> None:
    stage = real_stage(simulator, real_participants)
    payment = new_payment(stage)

    def ask_until_answered() -> Reply:
        for _call in range(100):
            with suppress(GatewayInProgress):
                return ask(stage, payment, booking.authorise(payment))
        raise AssertionError("it was never answered")

    replies = at_once([ask_until_answered] * 4)

    assert all(reply == replies[0] for reply in replies)
    assert stage.effects(payment, "authorise") == 1


def test_the_real_psp_rejects_a_modification_of_no_payment(
    simulator: Simulator, real_participants: Participants
) -> None:
    stage = real_stage(simulator, real_participants)
    payment = replace(a_payment(), psp_reference="8816000000000000")

    with pytest.raises(GatewayRejected, match="167"):
        ask(stage, payment, booking.capture(payment))
