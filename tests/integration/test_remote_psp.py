"""A PSP that is asked by a participant elsewhere: its webhooks decide, as ever (F14, F30, F31)."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from app.domain.payment import CaptureMode
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.participants import Item, Participant
from tests.support.service import Service

#: A reference of the PSP that passes the check of card numbers.
LIKE_A_CARD = "861617275047289E"


@pytest.fixture
def elsewhere(service: Service) -> Iterator[Service]:
    other = service.restarted(remote_services="psp")
    yield other
    other.container.close()


@pytest.fixture
def psp(elsewhere: Service) -> Participant:
    return Participant.of(elsewhere, "psp")


@pytest.fixture
def asked(elsewhere: Service) -> UUID:
    """A payment whose authorisation is offered."""
    payment_id = elsewhere.start(capture=CaptureMode.AUTOMATIC)
    elsewhere.settle()
    return payment_id


def taken(psp: Participant, item: Item, reference: str) -> Item:
    """Answer as the PSP does."""
    return psp.answer(item, psp_reference=reference, result="received")


def modification(code: str, reference: str) -> Item:
    return an_item(
        code,
        psp_reference=reference,
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:30:00+01:00",
    )


def test_the_webhooks_decide_and_every_command_carries_what_it_needs(
    elsewhere: Service, psp: Participant, asked: UUID
) -> None:
    authorise = psp.take_one()
    psp.answer(authorise, psp_reference=PSP_REFERENCE, result="Authorised")
    elsewhere.settle()
    before = elsewhere.payment(asked)
    elsewhere.receive(an_item())
    capture = psp.take_one()
    taken(psp, capture, "CAP1")
    elsewhere.settle()
    waiting = elsewhere.payment(asked).state
    elsewhere.receive(modification("CAPTURE", "CAP1"))

    assert (before.state, before.psp_reference) == ("preauth", PSP_REFERENCE)
    assert waiting == "capture"
    assert authorise["data"] == {
        "merchant_reference": "ORDER-1001",
        "amount_minor": 12500,
        "currency": "EUR",
        "payment_method": {"type": "scheme", "holder_name": "S Hopper"},
    }
    assert capture["data"] == {
        "psp_reference": PSP_REFERENCE,
        "amount_minor": 12500,
        "currency": "EUR",
    }
    assert elsewhere.payment(asked).state == "fin"
    assert elsewhere.discrepancies() == []


def test_a_webhook_that_overtakes_the_answer_is_enough(
    elsewhere: Service, psp: Participant, asked: UUID
) -> None:
    authorise = psp.take_one()
    elsewhere.receive(an_item())
    state = elsewhere.payment(asked).state

    psp.answer(authorise, psp_reference=PSP_REFERENCE, result="Authorised")
    elsewhere.settle()

    assert state == elsewhere.payment(asked).state == "capture"


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("data", "missing"),
    [
        ({}, ["data.psp_reference", "data.result"]),
        ({"psp_reference": PSP_REFERENCE}, ["data.result"]),
        ({"psp_reference": 88161789, "result": "received"}, ["data.psp_reference"]),
        ({"psp_reference": "", "result": "received"}, ["data.psp_reference"]),
    ],
)
def test_a_yes_that_does_not_say_what_the_psp_said_is_refused(
    elsewhere: Service, psp: Participant, data: object, missing: list[str]
) -> None:
    refused = psp.respond(psp.take_one(), success=True, data=data)

    assert refused.status_code == 422
    assert refused.json is not None
    assert [error["field"] for error in refused.json["errors"]] == missing
    assert elsewhere.rows("SELECT 1 FROM responses WHERE service_id = 'psp'") == []


@pytest.mark.usefixtures("elsewhere")
def test_a_no_needs_no_reference_and_declines(
    elsewhere: Service, psp: Participant, asked: UUID
) -> None:
    psp.answer(psp.take_one(), success=False, reason="no such payment method")
    elsewhere.settle()

    assert elsewhere.payment(asked).state == "declined"


@pytest.mark.usefixtures("asked")
def test_a_reference_of_the_psp_may_look_like_a_card_number(psp: Participant) -> None:
    item = psp.take_one()
    refused = psp.respond(item, success=True, data={"result": LIKE_A_CARD})

    assert refused.status_code == 422
    assert refused.json is not None
    assert refused.json["code"] == "card_number_refused"
    assert psp.answer(item, psp_reference=LIKE_A_CARD, result="Authorised")["applied"]


def test_an_undo_whose_webhook_stays_away_is_offered_again_and_answered_again(
    elsewhere: Service, psp: Participant, asked: UUID
) -> None:
    psp.answer(psp.take_one(), psp_reference=PSP_REFERENCE, result="Authorised")
    elsewhere.outside.booking.says_yes = False
    elsewhere.receive(an_item())
    cancel = psp.take_one()
    first = taken(psp, cancel, "VOID1")
    elsewhere.settle()
    elsewhere.later(70)

    again = psp.take_one()
    second = taken(psp, again, "VOID1")
    elsewhere.settle()
    elsewhere.receive(modification("CANCELLATION", "VOID1"))

    assert cancel["data"] == {"psp_reference": PSP_REFERENCE}
    assert (again["message_id"], again["operation"]) == (cancel["message_id"], "cancel")
    assert first["message_id"] != second["message_id"]
    assert first["applied"]
    assert second["applied"]
    assert elsewhere.payment(asked).state == "compensated"


def test_an_authorisation_that_was_never_taken_is_voided_by_our_own_reference(
    elsewhere: Service, psp: Participant, asked: UUID
) -> None:
    elsewhere.later(900)

    cancel = psp.take_one()

    assert (cancel["operation"], cancel["data"]) == (
        "cancel",
        {"merchant_reference": "ORDER-1001"},
    )
    assert elsewhere.payment(asked).state == "compensating"
