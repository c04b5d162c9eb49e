"""Steps side by side: asked in one turn, called at once, each retried and undone by itself."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from app import failpoints
from app.domain.payment import CaptureMode
from app.domain.saga import Command, Reply
from app.errors import GatewayTimeout, GatewayUnavailable
from app.factory import create_app
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.fakes import FakeParty
from tests.support.participants import Participant
from tests.support.runners import PATIENCE_SECONDS, Held, running
from tests.support.sagas import with_insurance
from tests.support.service import Crash, Service, crash, poll


class FakeInsurance(FakeParty):
    """Insures, unless told otherwise, and ends what it insured."""

    says_yes = True

    def handle(self, command: Command) -> Reply:
        self.act(command.operation, command.idempotency_key)
        is_yes = self.says_yes or command.operation == "end"
        return Reply(success=is_yes, data={"policy": "P-1"})


@dataclass
class Insured(Service):
    """The service under a definition that insures the trip beside the booking."""

    @property
    def insurance(self) -> FakeInsurance:
        assert self.container.outside is not None
        insurance = self.container.outside["insurance"]
        assert isinstance(insurance, FakeInsurance)
        return insurance


@pytest.fixture
def insured(service: Service) -> Iterator[Insured]:
    participants = {**service.outside.participants(), "insurance": FakeInsurance()}
    container = replace(service.container, outside=participants)
    vars(container)["definitions"] = with_insurance()
    yield Insured(container, service.outside, service.clock, create_app(container).test_client())
    container.close()


def steps(service: Service, direction: str = "act") -> dict[str, tuple[str, int]]:
    """Tell each step's status and attempts."""
    rows = service.rows(
        "SELECT step, status, attempts FROM saga_steps WHERE direction = :direction",
        direction=direction,
    )
    return {row["step"]: (row["status"], row["attempts"]) for row in rows}


def test_both_are_asked_in_one_turn(insured: Insured) -> None:
    """Both intents, both commands and both undos are on disk before the first call is made."""
    seen: list[dict[str, tuple[str, int]]] = []

    def look() -> None:
        seen.append({name: steps(insured)[name] for name in ("booking_confirmation", "insurance")})
        seen.append({name: steps(insured, "undo")[name] for name in seen[0]})

    insured.start()
    insured.settle()
    insured.outside.booking.before_answer = look

    insured.receive(an_item())

    assert seen == [
        dict.fromkeys(["booking_confirmation", "insurance"], ("asked", 1)),
        dict.fromkeys(["booking_confirmation", "insurance"], ("registered", 0)),
    ]
    commands = insured.rows(
        "SELECT timestamp FROM commands WHERE operation IN ('confirm', 'insure')"
    )
    assert len(commands) == 2
    assert commands[0] == commands[1]


def test_both_calls_are_under_way_at_once(insured: Insured) -> None:
    together = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def meet() -> None:
        together.wait()

    insured.outside.booking.before_answer = insured.insurance.before_answer = meet
    payment_id = insured.start()
    insured.settle()
    insured.deliver(an_item())
    insured.drain()

    with running(insured.container.runner):
        poll(lambda: insured.payment(payment_id).state == "fin")

    assert not together.broken
    assert insured.outside.booking.asked("confirm") == insured.insurance.asked("insure") == 1


def test_flow_goes_on_when_both_have_worked_and_not_before(insured: Insured) -> None:
    insured.insurance.failures = [GatewayUnavailable("503")]
    payment_id = insured.start()
    insured.settle()
    insured.receive(an_item())
    before = insured.payment(payment_id).state

    insured.later(1)

    assert (before, insured.payment(payment_id).state) == ("booking_confirmation", "fin")


def test_the_one_that_failed_is_asked_again_alone_under_its_key(insured: Insured) -> None:
    insured.insurance.lost_answers = [GatewayTimeout("no answer"), GatewayTimeout("no answer")]
    payment_id = insured.start()
    insured.settle()
    insured.receive(an_item())
    insured.later(1)
    insured.later(5)

    assert insured.payment(payment_id).state == "fin"
    assert insured.outside.booking.asked("confirm") == 1
    assert insured.insurance.asked("insure") == 3
    assert len(insured.insurance.effects) == 1
    assert steps(insured)["insurance"] == ("done", 3)


def test_the_first_no_decides_and_what_the_other_did_is_undone(insured: Insured) -> None:
    """So is the booking itself: its party may have said no to a repetition (F30)."""
    insured.outside.booking.says_yes = False
    payment_id = insured.start()
    insured.settle()
    insured.receive(an_item())
    insured.receive(
        an_item("CANCELLATION", psp_reference="VOID1", original_reference=PSP_REFERENCE)
    )

    payment = insured.payment(payment_id)
    assert (payment.state, payment.reason) == ("compensated", "booking_refused")
    assert Counter(insured.insurance.effects.values()) == {"insure": 1, "end": 1}
    assert insured.outside.booking.asked("cancel") == 1


def test_a_no_is_final_although_the_other_has_no_answer_yet(insured: Insured) -> None:
    """Its outcome is not known, so that it is undone as well (F30)."""
    insured.insurance.says_yes = False
    insured.outside.booking.lost_answers = [GatewayTimeout("no answer")]
    payment_id = insured.start()
    insured.settle()
    insured.receive(an_item())

    assert insured.payment(payment_id).state == "compensating"
    assert insured.outside.booking.asked("cancel") == insured.outside.booking.asked("confirm") == 1
    assert insured.insurance.asked("end") == 0


def test_all_is_undone_last_first(insured: Insured) -> None:
    """F27."""
    order: list[str] = []
    insured.insurance.before_answer = lambda: order.append("insurance")
    insured.outside.booking.before_answer = lambda: order.append("booking")
    insured.outside.psp.before_answer = lambda: order.append("psp")
    insured.start(capture=CaptureMode.AUTOMATIC)
    insured.settle()
    insured.receive(an_item())
    order.clear()

    insured.receive(
        an_item("CAPTURE", success=False, psp_reference="CAP1", original_reference=PSP_REFERENCE)
    )

    assert order == ["insurance", "booking", "psp"]


@pytest.mark.parametrize("name", ["saga.before_effect", "saga.after_effect", "saga.after_commit"])
@pytest.mark.parametrize("place", range(1, 3))
def test_death_between_the_two_acts_each_once(insured: Insured, name: str, place: int) -> None:
    """F21, F22, F23: what was asked is asked again under its own key."""
    payment_id = insured.start()
    insured.settle()
    insured.deliver(an_item())
    insured.drain()
    passed = [0]

    def die() -> None:
        passed[0] += 1
        if passed[0] == place:
            failpoints.disarm_all()
            crash()

    failpoints.arm(name, die)
    with pytest.raises(Crash):
        insured.settle()

    insured.later(insured.lease_seconds)

    assert insured.payment(payment_id).state == "fin"
    assert list(insured.outside.booking.effects.values()) == ["confirm"]
    assert list(insured.insurance.effects.values()) == ["insure"]
    assert insured.discrepancies() == []


@pytest.mark.parametrize("party", ["fraud", "fraud_rules"])
def test_either_fraud_check_declines_before_the_psp_is_asked(service: Service, party: str) -> None:
    setattr(getattr(service.outside, party), "says_yes", False)  # noqa: B010  # a class attribute
    payment_id = service.start()
    service.settle()

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("declined", "fraud_check_refused")
    assert service.outside.fraud.asked("check") == service.outside.fraud_rules.asked("check") == 1
    assert service.outside.psp.calls == []


def test_fraud_rules_that_answered_are_not_asked_again_for_the_sake_of_the_check(
    service: Service,
) -> None:
    service.outside.fraud.failures = [GatewayUnavailable("503")] * 3
    payment_id = service.start()
    for _ in range(4):
        service.later(5)

    assert service.payment(payment_id).state == "preauth"
    assert service.outside.fraud.asked("check") == 4
    assert service.outside.fraud_rules.asked("check") == 1


@pytest.fixture
def fraud_elsewhere(service: Service) -> Iterator[Service]:
    """The fraud check lives elsewhere; the rules, here, answer when a test lets them."""
    rules = Held(service.outside.fraud_rules.handle)
    container = replace(
        service.container,
        outside={**service.outside.participants(), "fraud_rules": rules},
        settings=service.container.settings.model_copy(update={"remote_services": "fraud"}),
    )
    yield replace(service, container=container)
    container.close()


def test_an_answer_from_elsewhere_is_heard_while_our_own_call_is_under_way(
    fraud_elsewhere: Service,
) -> None:
    service = fraud_elsewhere
    assert service.container.outside is not None
    rules = service.container.outside["fraud_rules"]
    assert isinstance(rules, Held)
    fraud = Participant.of(service, "fraud")
    payment_id = service.start()

    with running(service.container.runner):
        assert rules.has_begun.wait(PATIENCE_SECONDS)
        fraud.answer(fraud.take_one())
        rules.may_end.set()
        poll(lambda: service.payment(payment_id).state == "preauth")

    assert steps(service)["fraud_check"] == ("done", 1)
