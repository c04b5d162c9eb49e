"""docs/participants.md tells every operation with its data, as the saga asks for it."""

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.access import SERVICES
from app.domain.facts import FactKind
from app.domain.flow import FlowState
from app.domain.saga import Direction, Request, StepStatus
from app.sagas import booking
from app.sagas.money_back import give_money_back
from tests.support.builders import PSP_REFERENCE, a_fact, a_payment, a_step_record

PAGE = (Path(__file__).parents[2] / "docs" / "participants.md").read_text()

ASKED = replace(a_payment(), psp_reference=PSP_REFERENCE)
HELD = a_payment(facts=(a_fact(),), psp_reference=PSP_REFERENCE)
KEPT = a_payment(
    facts=(a_fact(), a_fact(FactKind.CAPTURED, reference="CAP1", payment_reference=PSP_REFERENCE)),
    psp_reference=PSP_REFERENCE,
)
CAPTURE_ASKED = {
    ("capture", Direction.ACT): a_step_record(FlowState.CAPTURE, status=StepStatus.WAITING)
}

#: Every command that the flow may send, in every shape.
REQUESTS = [
    booking.confirm_booking(ASKED),
    booking.cancel_booking(ASKED, {}),
    booking.check_fraud(ASKED),
    booking.send_confirmation(ASKED),
    booking.authorise(ASKED),
    booking.capture(ASKED),
    give_money_back(a_payment(), {}),
    give_money_back(HELD, {}),
    give_money_back(HELD, CAPTURE_ASKED),
    give_money_back(KEPT, {}),
]


def table() -> Mapping[tuple[str, str], set[str]]:
    """The names of each operation's data, as the page lists them."""
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and cells[0].strip("`") in SERVICES:
            service, operation, data = (cells[0].strip("`"), cells[1].strip("`"), cells[2])
            found[service, operation] = set(re.findall(r"`(\w+)`", data))
    return found


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one.service_id}.{one.operation}")
def test_the_data_of_a_command_is_what_the_page_says(request_: Request) -> None:
    listed = table()[request_.service_id, request_.operation]
    is_void = request_.operation == "cancel" and request_.service_id == "psp"

    assert set(request_.data) <= listed if is_void else set(request_.data) == listed


def test_the_page_lists_no_other_operation() -> None:
    assert table().keys() == {(one.service_id, one.operation) for one in REQUESTS}


def test_the_example_is_python_of_at_most_forty_lines() -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

    ast.parse(example)
    assert len(example.splitlines()) <= 40
