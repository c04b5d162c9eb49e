"""A participant elsewhere takes commands over HTTP and answers them, in time, late, twice, never.

Promises 3 and 4: whatever it does, the payment comes to rest, and nothing acts twice (F24, F30).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from app.domain.identifiers import step_key
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.participants import Participant
from tests.support.service import Service, at_once, poll

#: How long the step waits for an answer.
DEADLINE = 600


@contextmanager
def with_elsewhere(service: Service, service_id: str) -> Iterator[Service]:
    """The service in another process, with a service that lives elsewhere."""
    other = service.restarted(remote_services=service_id)
    yield other
    other.container.close()


@pytest.fixture
def elsewhere(service: Service) -> Iterator[Service]:
    """The service, with a booking service that lives elsewhere."""
    with with_elsewhere(service, "booking") as other:
        yield other


@pytest.fixture
def booking(elsewhere: Service) -> Participant:
    return Participant.of(elsewhere, "booking")


def start_many(service: Service, number: int) -> list[UUID]:
    """Start payments and bring each to its booking."""
    references = [f"ORDER-{place}" for place in range(number)]
    ids = [service.start(merchant_reference=reference) for reference in references]
    service.settle()
    service.receive(*(an_item(psp_reference=f"PSP{r}", merchant_reference=r) for r in references))
    return ids


@pytest.fixture
def booked(elsewhere: Service) -> UUID:
    """A payment whose booking is to be confirmed."""
    payment_id = elsewhere.start()
    elsewhere.settle()
    elsewhere.receive(an_item())
    assert elsewhere.payment(payment_id).state == "booking_confirmation"
    return payment_id


def void() -> dict[str, object]:
    return an_item(
        "CANCELLATION",
        psp_reference="MODCANCEL",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:30:00+01:00",
    )


def titles(service: Service, payment_id: UUID) -> list[str]:
    headers = {"Authorization": f"Bearer {service.api_key()}"}
    answer = service.client.get(f"/payments/{payment_id}/timeline", headers=headers)
    assert answer.json is not None
    return [item["title"] for item in answer.json["items"]]


def test_a_command_tells_all_that_its_participant_needs(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    item = booking.take_one(lease_seconds=7)

    now = elsewhere.clock.now()
    assert elsewhere.outside.booking.calls == []
    assert UUID(item.pop("message_id")).version == 8
    saga_id = UUID(item.pop("saga_id"))
    assert item == {
        "service_id": "booking",
        "operation": "confirm",
        "idempotency_key": step_key(saga_id, "booking_confirmation", "act", 1),
        "merchant_account": "CountersignECOM",
        "data": {
            "payment_id": str(booked),
            "booking_reference": "BK-1001",
            "amount_minor": 12500,
            "currency": "EUR",
        },
        "timestamp": "2026-11-20T09:00:00.000000Z",
        "lease_until": f"{now + timedelta(seconds=7):%Y-%m-%dT%H:%M:%S.%fZ}",
        "offered_until": f"{now + timedelta(seconds=DEADLINE):%Y-%m-%dT%H:%M:%S.%fZ}",
    }


def test_a_yes_lets_the_payment_go_on(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    answered = booking.answer(booking.take_one(), confirmation_id="CNF-1")
    elsewhere.settle()

    assert answered["applied"]
    assert elsewhere.path(booked) == ["preauth", "booking_confirmation", "email", "fin"]
    assert "Booking confirmation: done" in titles(elsewhere, booked)
    said = elsewhere.events(booked, "step_answered")
    assert {"confirmation_id": "CNF-1"} in [data["answer"] for data in said]
    assert elsewhere.discrepancies() == []


def test_a_no_is_compensated_and_undone_there_all_the_same(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    """F30: it may answer a repetition, "that exists already"; to cancel too often is harmless."""
    booking.answer(booking.take_one(), success=False, reason="full")
    elsewhere.settle()
    elsewhere.receive(void())
    before = elsewhere.payment(booked).state
    cancel = booking.take_one()
    booking.answer(cancel, status="cancelled")
    elsewhere.settle()

    assert (before, cancel["operation"]) == ("compensating", "cancel")
    assert elsewhere.payment(booked).state == "compensated"
    assert booking.take() == []


def test_silence_is_compensated_and_undone_there(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    confirm = booking.take_one()
    elsewhere.later(DEADLINE)
    elsewhere.receive(void())
    cancel = booking.take_one()
    booking.answer(cancel, status="cancelled")
    elsewhere.settle()

    assert (cancel["operation"], cancel["data"]["payment_id"]) == ("cancel", str(booked))
    assert cancel["idempotency_key"] != confirm["idempotency_key"]
    assert elsewhere.payment(booked).state == "compensated"
    assert elsewhere.sagas_without_a_future() == []


def test_a_confirmation_that_was_never_taken_is_undone_as_well(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    elsewhere.later(DEADLINE)

    assert [item["operation"] for item in booking.take()] == ["cancel"]
    assert elsewhere.payment(booked).state == "compensating"


def test_participants_at_once_take_each_command_once(
    elsewhere: Service, booking: Participant
) -> None:
    start_many(elsewhere, 12)

    taken = at_once([lambda: booking.take(limit=2) + booking.take(limit=2)] * 4)

    ids = [item["message_id"] for items in taken for item in items]
    assert len(ids) == len(set(ids))
    left = booking.take(limit=100)
    assert len(ids) + len(left) == 12


def test_no_participant_takes_more_than_it_asks_for(
    elsewhere: Service, booking: Participant
) -> None:
    start_many(elsewhere, 7)

    assert [len(booking.take(limit=3)) for _ in range(4)] == [3, 3, 1, 0]


def test_what_another_participant_is_taking_is_passed_over(
    elsewhere: Service, booking: Participant
) -> None:
    start_many(elsewhere, 3)
    oldest = (
        "SELECT message_id FROM commands WHERE offered_until IS NOT NULL ORDER BY timestamp LIMIT 1"
    )

    with elsewhere.container.engine.begin() as other:
        held = other.execute(text(f"{oldest} FOR UPDATE")).scalar_one()
        taken = [item["message_id"] for item in booking.take()]

    assert len(taken) == 2
    assert [item["message_id"] for item in booking.take()] == [str(held)]


def test_an_answer_waits_for_whoever_decides_about_the_payment(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    item = booking.take_one()
    with ThreadPoolExecutor(1) as pool:
        with elsewhere.container.unit_of_work() as uow:
            uow.payments.get_for_update(booked)
            answered = pool.submit(booking.answer, item)
            poll(elsewhere.is_waiting_for_a_lock)
        applied = answered.result(60)["applied"]
    elsewhere.settle()

    assert applied
    assert elsewhere.payment(booked).state == "fin"


@pytest.mark.usefixtures("booked")
def test_a_command_comes_again_unchanged_when_its_lease_is_over_and_not_before(
    elsewhere: Service, booking: Participant
) -> None:
    first = booking.take_one(lease_seconds=30)
    elsewhere.advance(29)
    during = booking.take()
    elsewhere.advance(1)

    second = booking.take_one(lease_seconds=30)

    assert during == []
    assert second["lease_until"] > first["lease_until"]
    del first["lease_until"], second["lease_until"]
    assert first == second


def test_the_first_of_two_takers_may_still_answer(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    slow = booking.take_one(lease_seconds=1)
    elsewhere.advance(1)
    quick = booking.take_one()

    first = booking.answer(slow, status="confirmed")
    second = booking.answer(quick, status="confirmed")
    elsewhere.settle()

    assert first == second
    assert elsewhere.count("responses") == len(elsewhere.events(booked, "step_answered"))
    assert elsewhere.payment(booked).state == "fin"


@pytest.mark.usefixtures("booked")
@pytest.mark.parametrize("is_read", [False, True])
def test_the_same_answer_again_is_the_first_one(
    elsewhere: Service, booking: Participant, *, is_read: bool
) -> None:
    item = booking.take_one()
    first = booking.answer(item, status="confirmed", rooms=2)
    if is_read:
        elsewhere.settle()

    assert booking.answer(item, rooms=2, status="confirmed") == first


@pytest.mark.usefixtures("booked")
@pytest.mark.parametrize(
    ("success", "data"), [(False, {"sure": True}), (True, {}), (True, {"sure": 1})]
)
def test_another_answer_is_refused_and_the_first_one_stands(
    elsewhere: Service, booking: Participant, *, success: bool, data: object
) -> None:
    item = booking.take_one()
    booking.answer(item, sure=True)

    refused = booking.respond(item, success=success, data=data)
    elsewhere.settle()

    assert (refused.status_code, refused.mimetype) == (409, "application/problem+json")
    assert refused.json is not None
    assert refused.json["code"] == "command_answered"
    [kept] = elsewhere.rows("SELECT success, data FROM responses WHERE service_id = 'booking'")
    assert kept == {"success": True, "data": {"sure": True}}


def test_of_different_answers_at_once_one_stands(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    item = booking.take_one()

    answers = at_once(
        [lambda: booking.respond(item, success=True, data={}).status_code] * 2
        + [lambda: booking.respond(item, success=False, data={}).status_code] * 2
    )
    elsewhere.settle()

    assert sorted(answers) == [200, 200, 409, 409]
    said_yes = answers[0] == 200
    assert elsewhere.payment(booked).state == ("fin" if said_yes else "compensating")


def test_a_late_answer_is_kept_and_what_it_did_is_undone(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    item = booking.take_one()
    elsewhere.later(DEADLINE)
    late = booking.answer(item, status="confirmed")
    again = booking.answer(item, status="confirmed")
    booking.answer(booking.take_one(), status="cancelled")
    elsewhere.receive(void())

    assert not late["applied"]
    assert again == late
    assert "Booking confirmation: late" in titles(elsewhere, booked)
    assert elsewhere.payment(booked).state == "compensated"
    assert elsewhere.discrepancies() == []


def test_an_answer_after_the_payment_came_to_rest_is_kept(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    item = booking.take_one()
    elsewhere.later(DEADLINE)
    booking.answer(booking.take_one(), status="cancelled")
    elsewhere.receive(void())
    assert elsewhere.payment(booked).state == "compensated"

    late = booking.answer(item, status="confirmed")
    elsewhere.settle()

    assert not late["applied"]
    assert "Booking confirmation: late" in titles(elsewhere, booked)
    assert elsewhere.payment(booked).state == "compensated"
    assert elsewhere.discrepancies() == []


def test_an_answer_that_comes_before_the_saga_gives_up_is_in_time(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    item = booking.take_one()
    elsewhere.advance(DEADLINE + 1)  # no worker has looked since

    answered = booking.answer(item, status="confirmed")
    elsewhere.settle()

    assert answered["applied"]
    assert elsewhere.payment(booked).state == "fin"


def test_whoever_is_first_the_answer_or_the_deadline_both_agree(
    elsewhere: Service, booking: Participant
) -> None:
    ids = start_many(elsewhere, 12)
    items = {item["data"]["payment_id"]: item for item in booking.take(limit=100)}
    elsewhere.advance(DEADLINE)

    def answer_all() -> dict[str, bool]:
        return {key: booking.answer(item)["applied"] for key, item in items.items()}

    def give_up() -> dict[str, bool]:
        elsewhere.settle()
        return {}

    def take() -> dict[str, bool]:
        for _ in range(10):
            booking.take(limit=3, lease_seconds=1)
        return {}

    applied, *_none = at_once([answer_all, give_up, take, take])
    elsewhere.settle()

    for payment_id in ids:
        state = elsewhere.payment(payment_id).state
        assert (state == "fin") == applied[str(payment_id)], state
        assert state in {"fin", "compensating"}
    assert elsewhere.sagas_without_a_future() == []
    assert elsewhere.discrepancies() == []


@pytest.mark.usefixtures("booked")
def test_a_withdrawn_command_is_never_handed_out_again(
    elsewhere: Service, booking: Participant
) -> None:
    booking.take_one(lease_seconds=1)
    elsewhere.later(DEADLINE)
    booking.answer(booking.take_one())
    elsewhere.later(2)

    assert booking.take() == []


def test_a_hold_that_is_released_meanwhile_makes_the_answer_late(
    elsewhere: Service, booking: Participant, booked: UUID
) -> None:
    item = booking.take_one()
    elsewhere.receive(void())

    late = booking.answer(item, status="confirmed")

    assert not late["applied"]
    assert booking.take_one()["operation"] == "cancel"
    assert elsewhere.payment(booked).state == "compensating"


@pytest.mark.usefixtures("booked")
def test_an_undo_without_an_answer_is_offered_again_but_never_beside_a_lease(
    elsewhere: Service, booking: Participant
) -> None:
    elsewhere.later(DEADLINE)
    first = booking.take_one(lease_seconds=150)
    for _ in range(2):
        elsewhere.later(60)
        assert booking.take() == []
    elsewhere.later(30)

    again = booking.take_one()

    assert again["message_id"] == first["message_id"]
    assert again["idempotency_key"] == first["idempotency_key"]


def test_offers_that_are_long_over_are_let_go(elsewhere: Service, booking: Participant) -> None:
    start_many(elsewhere, 3)
    elsewhere.advance(DEADLINE + 3600)  # no worker has looked since
    offered = "SELECT message_id FROM commands WHERE offered_until IS NOT NULL"
    before = len(elsewhere.rows(offered))

    assert booking.take() == []
    assert (before, len(elsewhere.rows(offered))) == (3, 0)


def test_a_command_that_came_home_again_is_carried_out_at_home(
    elsewhere: Service, service: Service, booking: Participant, booked: UUID
) -> None:
    elsewhere.later(DEADLINE)
    cancel = booking.take_one()
    service.later(60)
    service.receive(void())

    assert service.outside.booking.asked("cancel") == 1
    assert service.payment(booked).state == "compensated"
    # Nobody waits for an answer from there any more; the one from home stands.
    refused = booking.respond(cancel, success=True, data={})
    assert refused.json is not None
    assert (refused.status_code, refused.json["code"]) == (409, "command_answered")


def test_a_mail_service_elsewhere_that_says_no_undoes_nothing(service: Service) -> None:
    with with_elsewhere(service, "mail") as elsewhere:
        mail = Participant.of(elsewhere, "mail")
        payment_id = elsewhere.start()
        elsewhere.settle()
        elsewhere.receive(an_item())
        item = mail.take_one()
        mail.answer(item, success=False, smtp_code=550)
        elsewhere.settle()

        assert item["data"]["to"] == "s.hopper@example.com"
        assert elsewhere.payment(payment_id).state == "fin"
        assert "Mail failed: email → fin" in titles(elsewhere, payment_id)
