"""Every order of AUTHORISATION false and true, and success that comes late (F12, F15)."""

import pytest

from app.domain.payment import Payment
from tests.support.builders import PSP_REFERENCE, a_webhook, an_item
from tests.support.service import Service

WINDOW_SECONDS = 900


def refused(**values: str) -> dict[str, object]:
    return an_item(success=False, event_date="2026-11-20T10:00:01+01:00", **values)  # type: ignore[arg-type]  # text fields only


def cancelled() -> dict[str, object]:
    return an_item(
        "CANCELLATION",
        psp_reference="VOID1",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T12:00:00+01:00",
    )


@pytest.fixture
def asked(service: Service) -> Payment:
    """A payment whose authorisation is asked for."""
    payment_id = service.start()
    service.settle()
    return service.payment(payment_id)


def test_true_then_false_stays_authorised(service: Service, asked: Payment) -> None:
    service.receive(an_item(), refused())

    payment = service.payment(asked.payment_id)
    assert payment.funds.status == "authorised"
    assert payment.state == "fin"


def test_false_after_true_is_kept_as_a_refused_transition(service: Service, asked: Payment) -> None:
    service.receive(an_item())
    service.receive(refused())

    [kept] = service.events(asked.payment_id, "transition_refused")
    assert kept == {"state": "fin", "event": "authorisation_refused"}


def test_false_after_true_before_the_saga_looked_is_kept_too(
    service: Service, asked: Payment
) -> None:
    service.deliver(an_item(), refused())
    service.drain()

    [kept] = service.events(asked.payment_id, "transition_refused")
    assert kept["state"] == "booking_confirmation"


def test_false_declines(service: Service, asked: Payment) -> None:
    service.receive(refused())

    payment = service.payment(asked.payment_id)
    assert (payment.state, payment.funds.status) == ("declined", "refused")
    assert service.outside.booking.calls == []


def test_true_after_false_within_the_window_resumes_at_the_booking(
    service: Service, asked: Payment
) -> None:
    service.receive(refused())
    service.advance(WINDOW_SECONDS)
    service.receive(an_item())

    assert service.path(asked.payment_id) == [
        "preauth",
        "declined",
        "booking_confirmation",
        "email",
        "fin",
    ]
    assert service.open_breaks() == []


def test_a_resumed_payment_no_longer_names_a_reason(service: Service, asked: Payment) -> None:
    service.receive(refused())
    service.receive(an_item())

    assert service.payment(asked.payment_id).reason is None


def test_true_after_the_window_is_undone_and_opens_a_break(
    service: Service, asked: Payment
) -> None:
    service.receive(refused())
    service.advance(WINDOW_SECONDS + 1)
    service.receive(an_item())

    assert service.payment(asked.payment_id).state == "compensating"
    assert service.outside.psp.asked("cancel") == 1
    assert service.open_breaks() == ["LATE_SUCCESS"]


def test_a_late_success_is_compensated_once_the_void_is_confirmed(
    service: Service, asked: Payment
) -> None:
    service.receive(refused())
    service.advance(WINDOW_SECONDS + 1)
    service.receive(an_item())
    service.receive(cancelled())

    payment = service.payment(asked.payment_id)
    assert (payment.state, payment.funds.held) == ("compensated", 0)
    assert service.outside.booking.calls == []


def test_success_after_compensation_is_undone_again_under_a_new_key(
    service: Service, asked: Payment
) -> None:
    service.later(WINDOW_SECONDS)
    service.receive(
        an_item(
            "TECHNICAL_CANCEL",
            psp_reference="VOID0",
            amount_minor=0,
            event_date="2026-11-20T10:15:00+01:00",
        )
    )
    assert service.payment(asked.payment_id).state == "compensated"

    service.receive(an_item(event_date="2026-11-20T10:16:00+01:00"))

    keys = [key for what, key in service.outside.psp.calls if what == "cancel"]
    assert len(keys) == len(set(keys)) == 2
    assert service.open_breaks() == ["LATE_SUCCESS"]
    service.receive(cancelled())
    assert service.payment(asked.payment_id).state == "compensated"


def test_late_success_of_a_payment_that_never_was_asked_for_is_undone(service: Service) -> None:
    service.outside.fraud.says_yes = False
    payment_id = service.start()
    service.settle()
    assert service.payment(payment_id).state == "declined"

    service.receive(an_item())

    assert "booking_confirmation" not in service.path(payment_id)
    assert service.payment(payment_id).state == "compensating"
    assert service.outside.psp.asked("cancel") == 1
    assert service.open_breaks() == ["LATE_SUCCESS"]


def test_a_second_late_success_opens_no_second_break(service: Service, asked: Payment) -> None:
    service.receive(refused())
    service.advance(WINDOW_SECONDS + 1)
    service.receive(an_item())
    service.receive(an_item(psp_reference="8816178914079799"))

    assert sorted(service.open_breaks()) == ["DUPLICATE_PSP", "LATE_SUCCESS"]
    assert service.payment(asked.payment_id).state == "compensating"


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
)
def test_any_order_of_a_payments_webhooks_ends_in_the_same_funds(
    service: Service, asked: Payment, order: tuple[int, ...]
) -> None:
    items = (
        refused(),
        an_item(),
        an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE),
    )

    service.receive(*(items[place] for place in order))

    payment = service.payment(asked.payment_id)
    assert (payment.funds.status, payment.funds.captured) == ("captured", 12500)
    assert payment.state == "fin"
    assert service.work() == []


def test_an_authorisation_of_less_than_was_asked_for_is_undone(
    service: Service, asked: Payment
) -> None:
    service.receive(an_item(amount_minor=1))

    payment = service.payment(asked.payment_id)
    assert (payment.state, payment.reason) == ("compensating", "authorisation_fell_short")
    assert service.outside.booking.calls == []
    assert service.outside.psp.asked("cancel") == 1


def test_a_capture_of_a_payment_that_was_given_up_is_refunded(
    service: Service, asked: Payment
) -> None:
    service.receive(refused())
    service.advance(WINDOW_SECONDS + 1)

    service.receive(an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE))

    assert service.payment(asked.payment_id).state == "compensating"
    assert service.outside.psp.asked("refund") == 1
    assert service.open_breaks() == ["LATE_SUCCESS"]


def test_a_hold_that_is_gone_before_its_authorisation_is_told_books_nothing(
    service: Service, asked: Payment
) -> None:
    service.receive(
        an_item(
            "CANCELLATION",
            psp_reference="VOID1",
            original_reference=PSP_REFERENCE,
            event_date="2026-11-20T10:05:00+01:00",
        ),
        an_item(),
    )

    payment = service.payment(asked.payment_id)
    assert (payment.state, payment.funds.status) == ("compensated", "cancelled")
    assert service.outside.booking.calls == []
    assert service.outside.mail.calls == []


def test_a_replay_with_the_unsigned_environment_flipped_changes_nothing(
    service: Service, asked: Payment
) -> None:
    service.outside.booking.says_yes = False
    service.receive(an_item())
    service.receive(
        an_item(
            "CANCELLATION",
            psp_reference="VOID1",
            original_reference=PSP_REFERENCE,
            event_date="2026-11-20T10:05:00+01:00",
        )
    )
    assert service.payment(asked.payment_id).state == "compensated"

    replay = a_webhook().replace(b'"live": "false"', b'"live": "true"')
    assert service.post_webhook(replay).status_code == 200
    service.settle()

    assert service.payment(asked.payment_id).state == "compensated"
    assert service.open_breaks() == []


def test_a_second_hold_is_not_taken_for_released_with_the_first(
    service: Service, asked: Payment
) -> None:
    service.outside.booking.says_yes = False
    service.receive(an_item(), an_item(psp_reference="8816178914079799"))

    service.receive(cancelled())

    payment = service.payment(asked.payment_id)
    assert (payment.funds.cancelled, payment.funds.held) == (12500, 12500)
    assert payment.state == "compensating"
    assert service.open_breaks() == ["DUPLICATE_PSP"]


def test_a_void_by_our_reference_releases_both_holds(service: Service, asked: Payment) -> None:
    service.outside.booking.says_yes = False
    service.receive(an_item(), an_item(psp_reference="8816178914079799"))

    service.receive(
        an_item(
            "TECHNICAL_CANCEL",
            psp_reference="VOID1",
            amount_minor=0,
            event_date="2026-11-20T12:00:00+01:00",
        )
    )

    payment = service.payment(asked.payment_id)
    assert (payment.state, payment.funds.held) == ("compensated", 0)


@pytest.mark.parametrize("item", [an_item(), refused()], ids=["authorised", "refused"])
def test_what_was_undone_is_not_undone_again_because_it_is_told_again(
    service: Service, asked: Payment, item: dict[str, object]
) -> None:
    service.outside.booking.says_yes = False
    service.receive(refused(), an_item(), cancelled())
    assert service.payment(asked.payment_id).state == "compensated"
    version = service.payment(asked.payment_id).version

    service.receive(item | {"eventDate": "2026-11-20T13:00:00+01:00"})

    assert service.payment(asked.payment_id).version == version
    assert service.open_breaks() == []


def test_a_capture_that_was_refunded_is_no_late_success_because_it_is_told_again(
    service: Service, asked: Payment
) -> None:
    captured = an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE)
    refunded = an_item("REFUND", psp_reference="REF1", original_reference=PSP_REFERENCE)
    service.outside.booking.says_yes = False
    service.receive(captured, an_item(), refunded)
    assert service.payment(asked.payment_id).state == "compensated"

    service.receive(captured | {"eventDate": "2026-11-20T13:00:00+01:00"})

    assert service.payment(asked.payment_id).state == "compensated"
    assert service.open_breaks() == []
