"""Answers that come when nobody waits any more: what they did is undone (F15, F24, F26, F30).

Promises 3 and 4: nothing stays booked or held that nobody wants, however late it is known.
"""

from collections.abc import Callable
from uuid import UUID

import pytest

from app.domain.payment import CaptureMode
from app.errors import GatewayTimeout, GatewayUnavailable
from app.sagas.moving import Turn
from app.sagas.orchestrator import Orchestrator
from app.services.operate import Remedy
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.desk import cancellation, do
from tests.support.runners import call, orchestrator
from tests.support.service import Service

DAY = 24 * 3600


def under_way(service: Service, worker: Orchestrator, service_id: str) -> Turn:
    """Let a worker come to its call of a service, and stand still there."""
    [turn] = worker.advance(claims_max=1).turns
    while turn.calls[0].command.service_id != service_id:
        [turn] = worker.advance([call(service, turn)]).turns
    return turn


def confirming(service: Service, worker: Orchestrator) -> tuple[UUID, Turn]:
    """A payment whose booking is asked for by a worker that stands still before the call."""
    payment_id = service.start()
    service.settle()
    service.deliver(an_item())
    service.drain()
    return payment_id, under_way(service, worker, "booking")


def bookings(service: Service) -> list[str]:
    return [what for what, _key in service.outside.booking.calls]


def voided(service: Service, _payment_id: UUID) -> None:
    """The hold is released at the PSP."""
    service.receive(cancellation(reference="VOID1"))


def abandoned(service: Service, payment_id: UUID) -> None:
    """A person gives the payment up."""
    do(service, payment_id, Remedy.ABANDON)
    service.settle()


def test_booking_that_is_there_already_when_it_is_asked_for_again_is_cancelled(
    service: Service,
) -> None:
    """F30: the "no" (409) answers the repetition; the call before it booked."""
    payment_id = service.start()
    service.settle()
    service.outside.booking.lost_answers = [GatewayTimeout("booked, and the answer was lost")]
    service.receive(an_item())
    service.outside.booking.says_yes = False

    service.later(1)
    service.receive(cancellation())

    assert bookings(service) == ["confirm", "confirm", "cancel"]
    assert service.payment(payment_id).state == "compensated"


@pytest.mark.parametrize("end", [voided, abandoned])
def test_booking_is_cancelled_when_its_confirmation_came_back_and_not_before(
    service: Service, end: Callable[[Service, UUID], None]
) -> None:
    """F30, F31: a cancellation that overtakes the confirmation cancels nothing."""
    worker = orchestrator(service, owner="slow")
    payment_id, turn = confirming(service, worker)
    end(service, payment_id)
    service.later(service.lease_seconds - 1)
    before = bookings(service)

    worker.advance([call(service, turn)])
    service.settle()

    assert (before, bookings(service)) == ([], ["confirm", "cancel"])
    service.receive(cancellation())
    assert service.payment(payment_id).state == "compensated"
    assert service.open_breaks() == []
    assert service.discrepancies() == []


@pytest.mark.parametrize("end", [voided, abandoned])
def test_booking_is_cancelled_when_the_lease_of_its_confirmation_is_over(
    service: Service, end: Callable[[Service, UUID], None]
) -> None:
    """F24, F30: whoever called may be dead, and the call may have worked."""
    payment_id, _turn = confirming(service, orchestrator(service, owner="dead"))
    end(service, payment_id)
    service.later(service.lease_seconds - 1)
    before = bookings(service)

    service.later(1)

    assert (before, bookings(service)) == ([], ["cancel"])
    service.receive(cancellation())
    assert service.payment(payment_id).state == "compensated"


def test_confirmation_that_lands_after_the_cancellation_is_cancelled_once_more(
    service: Service,
) -> None:
    """F26: its worker slept past its lease, before it called."""
    worker = orchestrator(service, owner="asleep")
    payment_id, turn = confirming(service, worker)
    voided(service, payment_id)
    service.later(service.lease_seconds)
    assert service.payment(payment_id).state == "compensated"

    worker.advance([call(service, turn)])
    between = service.payment(payment_id)
    service.settle()

    assert (between.state, between.reason) == ("compensating", "answer_came_late")
    assert bookings(service) == ["cancel", "confirm", "cancel"]
    assert len({key for _what, key in service.outside.booking.calls}) == 3
    assert service.payment(payment_id).state == "compensated"
    assert service.open_breaks() == ["LATE_SUCCESS"]
    assert service.sagas_without_a_future() == []
    assert service.discrepancies() == []


def test_no_that_lands_after_the_cancellation_changes_nothing(service: Service) -> None:
    """F26."""
    worker = orchestrator(service, owner="asleep")
    payment_id, turn = confirming(service, worker)
    voided(service, payment_id)
    service.later(service.lease_seconds)
    service.outside.booking.says_yes = False

    worker.advance([call(service, turn)])
    service.settle()

    assert bookings(service) == ["cancel", "confirm"]
    assert service.payment(payment_id).state == "compensated"
    assert service.open_breaks() == []


def never_reached(service: Service, worker: Orchestrator) -> tuple[UUID, Turn]:
    """A payment that was undone before the PSP was reached, but for a worker that stands still."""
    payment_id = service.start()
    turn = under_way(service, worker, "psp")
    service.outside.psp.failures = [GatewayUnavailable("503")] * 100
    for _ in range(31):
        service.later(30)
    service.outside.psp.failures = []
    service.later(400)
    by_our_reference = an_item(
        "TECHNICAL_CANCEL",
        psp_reference="VOID1",
        amount_minor=0,
        event_date="2026-11-20T10:30:00+01:00",
    )
    service.receive(by_our_reference)
    assert service.payment(payment_id).state == "compensated"
    return payment_id, turn


def test_authorisation_that_lands_after_its_void_is_voided_although_no_webhook_tells_of_it(
    service: Service,
) -> None:
    """F14, F15, F31: the answer alone says that something may be held; so it is asked and asked."""
    worker = orchestrator(service, owner="asleep")
    payment_id, turn = never_reached(service, worker)
    called = call(service, turn)
    service.outside.psp.failures = [GatewayUnavailable("503")] * 2

    worker.advance([called])
    for _ in range(3):
        service.later(10)

    assert service.outside.psp.failures == []
    [*_, last] = service.rows("SELECT operation, data FROM commands ORDER BY timestamp, round")
    assert last == {"operation": "cancel", "data": {"psp_reference": PSP_REFERENCE}}
    assert service.payment(payment_id).state == "compensating"
    assert service.open_breaks() == ["LATE_SUCCESS"]
    service.receive(cancellation(reference="MODCANCEL2"))
    assert service.payment(payment_id).state == "compensated"
    assert service.discrepancies() == []


def test_refusal_that_lands_after_the_void_is_no_alarm(service: Service) -> None:
    service.outside.psp.result = "Refused"
    worker = orchestrator(service, owner="asleep")
    payment_id, turn = never_reached(service, worker)
    asked = service.outside.psp.asked("cancel")

    worker.advance([call(service, turn)])
    service.settle()

    assert service.payment(payment_id).state == "compensated"
    assert service.outside.psp.asked("cancel") == asked
    assert service.open_breaks() == []


@pytest.mark.parametrize("result", ["Refused", "Authorised"])
def test_answer_that_its_webhook_overtook_is_no_alarm(service: Service, result: str) -> None:
    """F12: DECLINED and EARLY WEBHOOK together stay declined, whatever the answer calls it."""
    service.outside.psp.result = result
    worker = orchestrator(service)
    payment_id = service.start()
    turn = under_way(service, worker, "psp")
    service.receive(an_item(success=False))

    worker.advance([call(service, turn)])
    service.later(DAY)

    assert service.path(payment_id) == ["preauth", "declined"]
    assert service.outside.psp.asked("cancel") == 0
    assert service.open_breaks() == []


def test_answer_that_its_good_webhook_overtook_is_no_alarm(service: Service) -> None:
    worker = orchestrator(service)
    payment_id = service.start()
    turn = under_way(service, worker, "psp")
    service.receive(an_item())

    worker.advance([call(service, turn)])
    service.later(DAY)

    assert service.payment(payment_id).state == "fin"
    assert service.outside.psp.asked("cancel") == 0
    assert service.open_breaks() == []


def test_answer_to_a_payment_that_was_undone_by_its_webhooks_is_no_alarm(service: Service) -> None:
    """F12: authorised, refused by the booking and voided, all before the answer is read."""
    service.outside.booking.says_yes = False
    worker = orchestrator(service)
    payment_id = service.start()
    turn = under_way(service, worker, "psp")
    service.receive(an_item())
    service.receive(cancellation())
    assert service.payment(payment_id).state == "compensated"

    worker.advance([call(service, turn)])
    service.later(DAY)

    assert service.payment(payment_id).state == "compensated"
    assert service.outside.psp.asked("cancel") == 0
    assert service.open_breaks() == []


def test_answer_to_a_capture_that_was_reversed_is_no_alarm_and_asks_for_no_second_reversal(
    service: Service,
) -> None:
    """F26: if it worked after all, a webhook tells."""
    worker = orchestrator(service, owner="asleep")
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.deliver(an_item())
    service.drain()
    turn = under_way(service, worker, "psp")
    abandoned(service, payment_id)
    service.later(service.lease_seconds)
    assert service.outside.psp.asked("reverse") == 1

    worker.advance([call(service, turn)])
    service.settle()
    service.receive(cancellation(reference="MODREVERSE"))

    assert service.payment(payment_id).state == "compensated"
    assert service.outside.psp.asked("reverse") == 1
    assert service.open_breaks() == []
