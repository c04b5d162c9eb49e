"""Many runners, few acts: the claim, the lease and the fence (F24, F25, F26, F36, F37)."""

from collections.abc import Callable

import pytest

from app.domain.payment import CaptureMode
from app.errors import GatewayTimeout, GatewayUnavailable
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service, at_once


def run_all(service: Service) -> None:
    while service.container.runner.run_next():
        pass


def test_runners_side_by_side_ask_everything_once(service: Service) -> None:
    ids = [service.start(merchant_reference=f"ORDER-{number}") for number in range(12)]
    at_once([lambda: run_all(service)] * 4)
    service.deliver(
        *(
            an_item(psp_reference=f"PSP{number}", merchant_reference=f"ORDER-{number}")
            for number in range(12)
        )
    )
    service.drain()

    at_once([lambda: run_all(service)] * 4)

    assert {service.payment(payment_id).state.value for payment_id in ids} == {"fin"}
    parties = service.outside
    asked = [len(p.calls) for p in (parties.fraud, parties.psp, parties.booking, parties.mail)]
    assert asked == [12] * 4


def test_a_saga_in_a_runners_hands_is_not_run_by_another(service: Service) -> None:
    seen: list[bool] = []
    service.start()
    service.outside.psp.before_answer = lambda: seen.extend(
        at_once([service.container.runner.run_next])
    )

    run_all(service)

    assert seen == [False]
    assert service.outside.psp.asked("authorise") == 1


def test_a_runner_that_overslept_its_lease_moves_nothing_but_what_it_did_is_undone(
    service: Service,
) -> None:
    """F26, F30: its yes is evidence, of a booking that came after the one that was cancelled."""
    payment_id = service.start()

    def oversleep() -> None:
        service.outside.booking.before_answer = lambda: None
        service.advance(service.lease_seconds)
        service.outside.booking.says_yes = False
        at_once([lambda: run_all(service)])
        service.outside.booking.says_yes = True

    run_all(service)
    service.outside.booking.before_answer = oversleep
    service.receive(an_item())

    assert service.path(payment_id) == ["preauth", "booking_confirmation", "compensating"]
    answers = service.events(payment_id, "step_answered")
    said = [
        (data["direction"], data["status"])
        for data in answers
        if data["step"] == "booking_confirmation"
    ]
    assert said == [("act", "refused"), ("undo", "done"), ("act", "done"), ("undo", "done")]
    assert len({key for what, key in service.outside.booking.calls if what == "cancel"}) == 2
    assert service.discrepancies() == []


def test_a_step_that_outlives_its_lease_has_one_effect(service: Service) -> None:
    payment_id = service.start()

    def oversleep() -> None:
        service.outside.psp.before_answer = lambda: None
        service.advance(service.lease_seconds)
        at_once([lambda: run_all(service)])

    service.outside.psp.before_answer = oversleep
    run_all(service)
    service.receive(an_item())

    assert service.outside.psp.asked("authorise") == 2
    assert len(service.outside.psp.effects) == 1
    assert service.payment(payment_id).state == "fin"


def test_a_webhook_during_a_call_wins_over_the_calls_answer(service: Service) -> None:
    payment_id = service.start()

    def overtake() -> None:
        service.deliver(an_item(success=False))
        service.drain()

    service.outside.psp.before_answer = overtake
    run_all(service)

    assert service.payment(payment_id).state == "declined"
    assert service.path(payment_id) == ["preauth", "declined"]


def test_a_long_backoff_does_not_delay_the_payments_webhook(service: Service) -> None:
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")] * 6
    payment_id = service.start()
    for _ in range(6):
        service.later(20)
    [saga] = service.rows("SELECT due FROM saga_instances")
    assert saga["due"] > service.clock.now()

    service.receive(an_item())

    assert service.payment(payment_id).state == "fin"


def test_a_saga_of_another_definition_is_left_alone(service: Service) -> None:
    service.start()
    service.execute("UPDATE saga_instances SET definition_version = 99")

    assert not service.container.runner.run_next()
    assert service.outside.fraud.calls == []


def test_a_failing_saga_does_not_keep_others_from_running(service: Service) -> None:
    service.outside.fraud.failures = [GatewayUnavailable("503")]
    first = service.start(merchant_reference="ORDER-1")
    second = service.start(merchant_reference="ORDER-2")
    run_all(service)

    assert service.payment(first).state == "fraud_check"
    assert service.payment(second).state == "preauth"


def test_an_act_that_raises_what_nobody_foresaw_is_repeated_then_given_up(
    service: Service,
) -> None:
    def stumble() -> None:
        raise ZeroDivisionError

    payment_id = service.start()
    run_all(service)
    service.outside.booking.before_answer = stumble
    service.deliver(an_item())
    for _ in range(12):
        service.advance(service.lease_seconds)
        try:
            service.settle()
        except ZeroDivisionError:
            continue

    assert service.payment(payment_id).state == "compensating"
    assert service.sagas_without_a_future() == []


def troubles(service: Service) -> dict[str, Callable[[], None]]:
    outside = service.outside
    return {
        "none": lambda: None,
        "fraud refuses": lambda: setattr(outside.fraud, "says_yes", False),
        "fraud is away": lambda: outside.fraud.failures.extend([GatewayUnavailable("503")] * 30),
        "psp is away": lambda: outside.psp.failures.extend([GatewayUnavailable("503")] * 30),
        "psp is slow": lambda: outside.psp.lost_answers.extend([GatewayTimeout("slow")] * 30),
        "booking refuses": lambda: setattr(outside.booking, "says_yes", False),
        "booking is slow": lambda: outside.booking.lost_answers.extend(
            [GatewayTimeout("slow")] * 30
        ),
        "mail refuses": lambda: setattr(outside.mail, "says_yes", False),
        "mail is away": lambda: outside.mail.failures.extend([GatewayUnavailable("503")] * 30),
    }


@pytest.mark.parametrize("capture", CaptureMode)
@pytest.mark.parametrize(
    "trouble",
    [
        "none",
        "fraud refuses",
        "fraud is away",
        "psp is away",
        "psp is slow",
        "booking refuses",
        "booking is slow",
        "mail refuses",
        "mail is away",
    ],
)
def test_at_no_time_is_a_saga_without_a_future(
    service: Service, trouble: str, capture: CaptureMode
) -> None:
    troubles(service)[trouble]()
    payment_id = service.start(capture=capture)
    webhooks = iter(
        [
            an_item(),
            an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE),
            an_item("CANCELLATION", psp_reference="VOID1", original_reference=PSP_REFERENCE),
            an_item("REFUND", psp_reference="REF1", original_reference=PSP_REFERENCE),
        ]
    )
    lost: list[object] = []
    for turn in range(24):
        service.later(30 * 1.6**turn)
        lost += service.sagas_without_a_future()
        if turn in {1, 3, 5, 7}:
            service.deliver(next(webhooks))

    assert lost == []
    assert service.discrepancies() == []
    assert service.payment(payment_id).state in {
        "fin",
        "declined",
        "compensated",
        "manual_review",
    }
