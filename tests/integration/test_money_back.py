"""The money goes back, whatever the PSP holds and whatever is known of it (F15, F30, F31)."""

from uuid import UUID

import pytest

from app.domain.flow import FlowEvent
from app.domain.payment import CaptureMode, Change
from app.errors import GatewayUnavailable
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Row, Service

SECOND = "8816178914070002"


def cancellation(of: str, reference: str, *, success: bool = True) -> dict[str, object]:
    return an_item(
        "CANCELLATION",
        success=success,
        psp_reference=reference,
        original_reference=of,
        event_date="2026-11-20T10:30:00+01:00",
    )


def by_our_reference(minute: int = 30) -> dict[str, object]:
    """What the PSP says of a cancellation by our reference."""
    return an_item(
        "TECHNICAL_CANCEL",
        psp_reference="MODCANCEL",
        amount_minor=0,
        event_date=f"2026-11-20T10:{minute:02}:00+01:00",
    )


def undos(service: Service) -> list[Row]:
    """Return what was sent to give the money back, in order."""
    return service.rows(
        "SELECT operation, data, round, idempotency_key FROM commands"
        " WHERE direction = 'undo' AND service_id = 'psp' ORDER BY timestamp, round"
    )


def asked(service: Service) -> list[tuple[str, object]]:
    """Tell what of which reference of the PSP."""
    return [(row["operation"], row["data"].get("psp_reference")) for row in undos(service)]


def twice_authorised(service: Service) -> None:
    """Bring a payment that the PSP authorised twice to its first undo."""
    service.outside.booking.says_yes = False
    service.start()
    service.settle()
    service.deliver(
        an_item(),
        an_item(psp_reference=SECOND, event_date="2026-11-20T10:05:00+01:00"),
    )
    service.settle()


def never_answered(service: Service) -> None:
    """Bring a payment to its undo of which the PSP has not said a word."""
    service.outside.psp.failures = [GatewayUnavailable("503")] * 40
    service.start()
    for _ in range(16):
        service.later(60)
    service.outside.psp.failures = []
    service.later(400)
    assert asked(service) == [("cancel", None)]


def abandoned_while_capturing(service: Service) -> UUID:
    """Bring a payment to its undo whose capture the PSP took and has not told of."""
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    with service.container.unit_of_work() as uow:
        change = Change(
            payment=uow.payments.get_for_update(payment_id), at=service.clock.now(), cause="test"
        )
        assert change.move(FlowEvent.ABANDONED)
        uow.payments.save(change)
        uow.sagas.follow(change.payment, now=change.at)
        uow.commit()
    service.settle()
    return payment_id


def test_two_holds_are_released_one_after_the_other(service: Service) -> None:
    twice_authorised(service)
    first = asked(service)
    service.receive(cancellation(PSP_REFERENCE, "MODCANCEL"))
    between = service.rows("SELECT state FROM payments")
    service.receive(cancellation(SECOND, "MODCANCEL2"))

    assert first == [("cancel", PSP_REFERENCE)]
    assert asked(service) == [("cancel", PSP_REFERENCE), ("cancel", SECOND)]
    assert between == [{"state": "compensating"}]
    assert service.rows("SELECT state FROM payments") == [{"state": "compensated"}]
    assert len({row["idempotency_key"] for row in undos(service)}) == 2


def test_the_second_hold_is_released_although_the_first_is_refused(service: Service) -> None:
    """F29: then a person is asked about the first, once more in vain."""
    twice_authorised(service)
    service.receive(cancellation(PSP_REFERENCE, "MODCANCEL", success=False))
    service.receive(cancellation(SECOND, "MODCANCEL2"))
    before = service.rows("SELECT state FROM payments")
    service.receive(cancellation(PSP_REFERENCE, "MODCANCEL3", success=False))

    references = [PSP_REFERENCE, SECOND, PSP_REFERENCE]
    assert asked(service) == [("cancel", reference) for reference in references]
    assert before == [{"state": "compensating"}]
    assert service.rows("SELECT state, reason FROM payments") == [
        {"state": "manual_review", "reason": "undo_failed"}
    ]
    [review] = service.rows("SELECT step FROM reviews")
    assert review == {"step": "preauth"}


def test_a_capture_whose_outcome_nobody_knows_is_reversed(service: Service) -> None:
    """F30: captured or not, a reversal gives it back."""
    payment_id = abandoned_while_capturing(service)

    assert asked(service) == [("reverse", PSP_REFERENCE)]
    assert service.outside.booking.asked("cancel") == 1
    service.receive(
        an_item(
            "CANCEL_OR_REFUND",
            psp_reference="MODREVERSE",
            original_reference=PSP_REFERENCE,
            event_date="2026-11-20T10:30:00+01:00",
            additional={"modification.action": "cancel"},
        )
    )
    assert service.payment(payment_id).state == "compensated"
    assert service.outside.psp.asked("reverse") == 1


def test_a_capture_that_is_told_while_it_is_reversed_asks_for_nothing_beside_it(
    service: Service,
) -> None:
    """F30: the reversal that the PSP took gives back what was captured; it is waited for."""
    payment_id = abandoned_while_capturing(service)

    service.receive(
        an_item("CAPTURE", psp_reference="MODCAPTURE", original_reference=PSP_REFERENCE)
    )
    between = asked(service)
    service.receive(
        an_item(
            "CANCEL_OR_REFUND",
            psp_reference="MODREVERSE",
            original_reference=PSP_REFERENCE,
            event_date="2026-11-20T10:30:00+01:00",
            additional={"modification.action": "refund"},
        )
    )

    assert between == asked(service) == [("reverse", PSP_REFERENCE)]
    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.kept) == ("compensated", 0)


def test_silence_of_the_psp_is_answered_by_a_void_under_our_own_reference(
    service: Service,
) -> None:
    """F14, F30: whether it ever got the request is not known."""
    never_answered(service)

    [row] = undos(service)
    assert row["data"] == {"merchant_reference": "ORDER-1001"}
    assert service.rows("SELECT state FROM payments") == [{"state": "compensating"}]
    service.receive(by_our_reference())
    assert service.rows("SELECT state FROM payments") == [{"state": "compensated"}]


def test_a_void_that_overtook_its_authorisation_is_followed_by_another_under_a_new_key(
    service: Service,
) -> None:
    """F31."""
    never_answered(service)
    service.receive(by_our_reference(minute=1))

    assert service.rows("SELECT state FROM payments") == [{"state": "compensated"}]
    service.receive(an_item(event_date="2026-11-20T10:05:00+01:00"))

    first, second = undos(service)
    assert (first["data"], second["data"]) == (
        {"merchant_reference": "ORDER-1001"},
        {"psp_reference": PSP_REFERENCE},
    )
    assert first["idempotency_key"] != second["idempotency_key"]
    assert service.open_breaks() == ["LATE_SUCCESS"]


@pytest.mark.parametrize("seconds", [0, 1, 30])
def test_a_void_that_waits_is_not_doubled_when_the_psp_tells_its_reference(
    service: Service, seconds: float
) -> None:
    """F31: each of the two would only make the PSP refuse the other."""
    never_answered(service)
    service.advance(seconds)
    service.receive(an_item())
    between = asked(service)
    service.receive(by_our_reference())

    assert between == [("cancel", None)] == asked(service)
    assert service.rows("SELECT state FROM payments") == [{"state": "compensated"}]


def test_a_void_that_stays_without_its_webhook_is_followed_by_one_under_the_psps_reference(
    service: Service,
) -> None:
    """F31."""
    never_answered(service)
    service.receive(an_item())

    service.later(60)

    assert asked(service) == [("cancel", None), ("cancel", PSP_REFERENCE)]
    assert [row["round"] for row in undos(service)] == [1, 2]
