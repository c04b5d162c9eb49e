"""No payment rests as if there were no money while there is, whoever was first.

Promise 3 (F12, F15, F30, F31): what is held or was paid, and nobody wants, goes back, once.
"""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from app.domain.payment import CaptureMode
from app.errors import GatewayNotAsked, GatewayTimeout
from app.services.operate import Remedy
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.desk import cancellation, captured, do
from tests.support.service import Service

SECOND = "8816178914070002"


def asked_to_give_back(service: Service) -> list[str]:
    """What was asked of the PSP to give money back, every try of it."""
    return [
        what for what, _key in service.outside.psp.calls if what not in {"authorise", "capture"}
    ]


def capture_refused() -> dict[str, object]:
    return an_item(
        "CAPTURE",
        success=False,
        psp_reference="MODCAPTURE",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:20:00+01:00",
    )


def refunded(amount_minor: int) -> dict[str, object]:
    return an_item(
        "REFUND",
        amount_minor=amount_minor,
        psp_reference="MODREFUND",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:40:00+01:00",
    )


@pytest.fixture
def paying(service: Service) -> UUID:
    """A payment with automatic capture, whose authorisation was asked for."""
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    return payment_id


def test_capture_that_was_put_off_after_one_without_answer_is_reversed(
    service: Service, paying: UUID
) -> None:
    """F30: the try before may have worked."""
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")]
    service.receive(an_item())
    service.outside.psp.failures = [GatewayNotAsked("left alone")]
    service.later(2)
    [before] = service.rows(
        "SELECT status, attempts FROM saga_steps WHERE step = 'capture' AND direction = 'act'"
    )

    do(service, paying, Remedy.ABANDON)
    service.settle()

    assert before == {"status": "put_off", "attempts": 2}
    assert asked_to_give_back(service) == ["reverse"]


def test_capture_that_never_left_is_not_reversed(service: Service, paying: UUID) -> None:
    """The hold alone is released: a reversal would be refused where nothing is to be reversed."""
    service.outside.psp.failures = [GatewayNotAsked("left alone")] * 2
    service.receive(an_item())
    service.later(5)

    do(service, paying, Remedy.ABANDON)
    service.settle()

    assert asked_to_give_back(service) == ["cancel"]


@pytest.mark.parametrize("is_capture_first", [True, False])
def test_partial_capture_is_given_back_whenever_it_is_told(
    service: Service, paying: UUID, *, is_capture_first: bool
) -> None:
    """F12: before the saga looked at the authorisation, or while it waits for the capture."""
    if is_capture_first:
        service.deliver(an_item(), captured(5000))
        service.drain()
        service.settle()
    else:
        service.receive(an_item())
        service.receive(captured(5000))
    assert service.payment(paying).state == "compensating"

    service.receive(refunded(5000))
    service.receive(cancellation())
    service.settle()

    payment = service.payment(paying)
    assert (payment.state, payment.funds.kept, payment.funds.held) == ("compensated", 0, 0)
    assert service.outside.mail.calls == []
    assert service.discrepancies() == []


@pytest.mark.parametrize("says_no", ["fraud", "fraud_rules"])
def test_payment_that_was_authorised_before_its_check_said_no_gives_the_money_back(
    service: Service, says_no: str
) -> None:
    """F12, F15: nothing is declined while money is held."""
    payment_id = service.start()
    service.deliver(an_item())
    service.drain()
    assert service.payment(payment_id).funds.held == 12500
    getattr(service.outside, says_no).says_yes = False  # type: ignore[attr-defined,unused-ignore]

    service.settle()

    assert service.path(payment_id) == ["declined", "compensating"]
    assert asked_to_give_back(service) == ["cancel"]
    assert service.open_breaks() == ["LATE_SUCCESS"]
    service.receive(cancellation())
    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.held) == ("compensated", 0)
    assert service.outside.booking.calls == []


def test_capture_tells_of_an_authorisation_that_is_still_under_way(service: Service) -> None:
    """F12: success after failure, in whatever order they are told."""
    payment_id = service.start()
    service.settle()
    service.receive(an_item(success=False))
    service.receive(captured())

    assert service.payment(payment_id).state == "fin"
    assert service.open_breaks() == []
    service.receive(an_item())
    assert service.payment(payment_id).state == "fin"


def test_capture_of_a_declined_payment_is_refunded_when_nobody_wants_it_any_more(
    service: Service,
) -> None:
    """F15."""
    payment_id = service.start()
    service.settle()
    service.receive(an_item(success=False))
    service.advance(service.container.settings.decision_window_seconds + 1)
    service.receive(captured())

    assert service.path(payment_id) == ["preauth", "declined", "compensating"]
    assert asked_to_give_back(service) == ["refund"]
    assert service.open_breaks() == ["LATE_SUCCESS"]
    service.receive(refunded(12500))
    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.kept) == ("compensated", 0)
    assert asked_to_give_back(service) == ["refund"]
    assert service.outside.booking.calls == []


def in_order(void: dict[str, object], authorisation: dict[str, object]) -> list[dict[str, object]]:
    return [void, authorisation]


def reversed_(void: dict[str, object], authorisation: dict[str, object]) -> list[dict[str, object]]:
    return [authorisation, void]


@pytest.mark.parametrize("order", [in_order, reversed_])
def test_void_by_our_reference_of_the_authorisations_very_second_is_not_taken_for_its_release(
    service: Service,
    order: Callable[[dict[str, object], dict[str, object]], list[dict[str, object]]],
) -> None:
    """F31: it may have overtaken the authorisation; dates of whole seconds can't tell."""
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")] * 40
    payment_id = service.start()
    for _ in range(16):
        service.later(60)
    service.outside.psp.lost_answers = []
    service.later(400)
    at = "2026-11-20T10:30:00+01:00"
    void = an_item("TECHNICAL_CANCEL", psp_reference="MODCANCEL", amount_minor=0, event_date=at)

    for item in order(void, an_item(event_date=at)):
        service.receive(item)
    service.later(400)

    assert service.payment(payment_id).state == "compensating"
    assert service.payment(payment_id).funds.held == 12500
    [*_, last] = service.rows("SELECT operation, data FROM commands ORDER BY timestamp, round")
    assert last == {"operation": "cancel", "data": {"psp_reference": PSP_REFERENCE}}
    service.receive(cancellation(reference="MODCANCEL2"))
    assert service.payment(payment_id).state == "compensated"


def test_nothing_is_asked_beside_a_reversal_that_the_psp_took(
    service: Service, paying: UUID
) -> None:
    """F30: two requests about the same money, each unaware of the other, refuse each other."""
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")]
    service.receive(an_item())
    do(service, paying, Remedy.ABANDON)
    service.settle()

    service.receive(capture_refused())
    between = asked_to_give_back(service)
    service.receive(
        an_item(
            "CANCEL_OR_REFUND",
            psp_reference="MODREVERSE",
            original_reference=PSP_REFERENCE,
            event_date="2026-11-20T10:31:00+01:00",
            additional={"modification.action": "cancel"},
        )
    )

    assert between == ["reverse"]
    payment = service.payment(paying)
    assert (payment.state, payment.funds.held) == ("compensated", 0)
    assert asked_to_give_back(service) == ["reverse"]


def test_reversal_that_is_never_told_of_is_followed_by_a_void(
    service: Service, paying: UUID
) -> None:
    """F14: what was taken is waited for, not for ever."""
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")]
    service.receive(an_item())
    do(service, paying, Remedy.ABANDON)
    service.settle()
    service.receive(capture_refused())

    for _ in range(3):
        service.later(60)

    assert "cancel" in asked_to_give_back(service)
    service.receive(cancellation())
    assert service.payment(paying).state == "compensated"


def test_capture_is_asked_of_the_hold_that_stands(service: Service, paying: UUID) -> None:
    """Of two authorisations, the first one was voided at the PSP."""
    service.deliver(
        an_item(),
        an_item(psp_reference=SECOND, event_date="2026-11-20T10:00:05+01:00"),
        cancellation(reference="VOID1"),
    )
    service.settle()

    [command] = service.rows("SELECT data FROM commands WHERE operation = 'capture'")
    assert command["data"]["psp_reference"] == SECOND
    assert service.payment(paying).state == "capture"


def test_payment_with_which_the_psp_was_never_reached_is_declined_and_not_voided(
    service: Service,
) -> None:
    service.outside.psp.failures = [GatewayNotAsked("left alone")] * 2000
    payment_id = service.start()
    while service.payment(payment_id).state in {"fraud_check", "preauth"}:
        service.later(60)

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("declined", "authorisation_rejected")
    assert service.clock.at >= payment.created_at + timedelta(minutes=15)
    assert asked_to_give_back(service) == []
    assert service.outside.psp.effects == {}
