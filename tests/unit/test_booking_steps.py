"""What each step of the booking saga asks of whom, and what it learns from the answer."""

from collections.abc import Mapping
from datetime import datetime

import pytest

from app.domain.facts import FactKind
from app.domain.identifiers import message_id, step_key
from app.domain.payment import Payment
from app.domain.saga import Request
from tests.support.builders import (
    NOW,
    PAYMENT_ID,
    PSP_REFERENCE,
    a_fact,
    a_payment,
    later,
)
from tests.support.sagas import STEPS

ID = str(PAYMENT_ID)
AMOUNT = {"amount_minor": 12500, "currency": "EUR"}
SHOPPER = {
    "payment_id": ID,
    "merchant_reference": "ORDER-1001",
    **AMOUNT,
    "shopper": {"email": "s.hopper@example.com"},
}
BOOKING = {"payment_id": ID, "booking_reference": "BK-1001"}

ASKED = {
    "fraud_check": ("fraud", "check", SHOPPER),
    "fraud_rules": ("fraud_rules", "check", SHOPPER),
    "preauth": (
        "psp",
        "authorise",
        {
            "merchant_reference": "ORDER-1001",
            **AMOUNT,
            "payment_method": {"type": "scheme", "holder_name": "S Hopper"},
        },
    ),
    "booking_confirmation": ("booking", "confirm", BOOKING | AMOUNT),
    "capture": ("psp", "capture", {"psp_reference": PSP_REFERENCE, **AMOUNT}),
    "email": (
        "mail",
        "send",
        {
            "template": "confirmation",
            "to": "s.hopper@example.com",
            "merchant_reference": "ORDER-1001",
            **BOOKING,
            **AMOUNT,
        },
    ),
}


def paid() -> Payment:
    return a_payment(psp_reference=PSP_REFERENCE)


@pytest.mark.parametrize("name", STEPS)
def test_request_says_who_is_asked_what_and_all_that_they_need(name: str) -> None:
    service_id, operation, data = ASKED[name]

    assert STEPS[name].request(paid()) == Request(
        service_id=service_id, operation=operation, data=data
    )


def test_booking_is_undone_by_cancelling_it() -> None:
    undo = STEPS["booking_confirmation"].undo
    assert undo is not None

    assert undo.request(paid(), {}) == Request(
        service_id="booking", operation="cancel", data=BOOKING
    )


@pytest.mark.parametrize(
    ("operation", "data", "subject"),
    [
        ("confirm", BOOKING, "confirm"),
        ("cancel", {"merchant_reference": "ORDER-1001"}, "cancel"),
        ("cancel", {"psp_reference": "PSP1"}, "cancel:PSP1"),
        ("refund", {"psp_reference": "PSP1", "amount_minor": 5}, "refund:PSP1:5"),
        ("refund", {"amount_minor": 5, "psp_reference": "PSP1"}, "refund:PSP1:5"),
        ("refund", {"psp_reference": "PSP1", "amount_minor": 6}, "refund:PSP1:6"),
    ],
)
def test_subject_tells_requests_apart_by_operation_reference_and_amount(
    operation: str, data: Mapping[str, object], subject: str
) -> None:
    assert Request(service_id="psp", operation=operation, data=data).subject == subject


def test_answer_to_the_authorisation_names_the_payment_and_decides_nothing() -> None:
    """F8."""
    learns = STEPS["preauth"].learns

    fact = learns(paid(), {"psp_reference": "PSP1", "result": "Authorised"}, later(5))

    assert fact == a_fact(FactKind.PENDING, reference="PSP1", occurred_at=later(5))


@pytest.mark.parametrize("answer", [{}, {"psp_reference": None}, {"psp_reference": 7}])
def test_answer_without_a_reference_teaches_nothing(answer: Mapping[str, object]) -> None:
    assert STEPS["preauth"].learns(paid(), answer, NOW) is None


@pytest.mark.parametrize("name", sorted(set(STEPS) - {"preauth"}))
@pytest.mark.parametrize("at", [NOW])
def test_no_other_answer_tells_of_the_money(name: str, at: datetime) -> None:
    assert STEPS[name].learns(paid(), {"psp_reference": "PSP1"}, at) is None


def test_command_is_the_same_message_on_every_retry_and_another_for_every_decision() -> None:
    keys = [
        step_key(PAYMENT_ID, step, direction, round_)
        for step in STEPS
        for direction in ("act", "undo")
        for round_ in (1, 2)
    ]
    ids = [message_id(key) for key in keys]

    assert ids == [message_id(key) for key in keys]
    assert len(set(keys)) == len(set(ids)) == len(STEPS) * 4
    assert {(one.version, one.variant) for one in ids} == {(8, "specified in RFC 4122")}
