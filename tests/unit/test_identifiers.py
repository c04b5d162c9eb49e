"""Idempotency keys of outside calls: the same for every retry, another for every decision."""

import re

import pytest

from app.domain.identifiers import step_key
from app.domain.keys import key_check_value
from tests.support.builders import PAYMENT_ID, numbered_id

KEY = step_key(PAYMENT_ID, "capture", "act", 1)


def test_key_is_64_hex_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", KEY)


def test_retry_has_the_same_key() -> None:
    assert step_key(PAYMENT_ID, "capture", "act", 1) == KEY


@pytest.mark.parametrize(
    "other",
    [
        step_key(numbered_id(1), "capture", "act", 1),
        step_key(PAYMENT_ID, "preauth", "act", 1),
        step_key(PAYMENT_ID, "capture", "undo", 1),
        step_key(PAYMENT_ID, "capture", "act", 2),
    ],
    ids=["saga", "step", "direction", "round"],
)
def test_key_changes_with_every_part(other: str) -> None:
    assert other != KEY


def test_check_value_names_a_key_in_six_capital_hex_digits() -> None:
    value = key_check_value(bytes(range(32)))

    assert re.fullmatch(r"[0-9A-F]{6}", value)
    assert key_check_value(bytes(32)) != value
