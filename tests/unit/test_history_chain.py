"""History can't be edited unseen: every hash covers its line and the hash before it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.history import GENESIS, seal
from app.domain.payment import EventKind, PaymentEvent
from tests.support.builders import NOW, PAYMENT_ID, numbered_id

EVENT = PaymentEvent(kind=EventKind.NOTED, at=NOW, cause="api", data={"note": "a", "n": 1})
SEALED = seal(GENESIS, PAYMENT_ID, 1, EVENT)


def sealed(events: Sequence[PaymentEvent]) -> list[bytes]:
    hashes = [GENESIS]
    for seq, event in enumerate(events, start=1):
        hashes.append(seal(hashes[-1], PAYMENT_ID, seq, event))
    return hashes[1:]


def test_hash_is_32_bytes_and_the_same_in_every_run() -> None:
    assert len(SEALED) == 32
    assert seal(GENESIS, PAYMENT_ID, 1, EVENT) == SEALED


@pytest.mark.parametrize(
    "other",
    [
        seal(b"\x01" * 32, PAYMENT_ID, 1, EVENT),
        seal(GENESIS, numbered_id(1), 1, EVENT),
        seal(GENESIS, PAYMENT_ID, 2, EVENT),
        seal(GENESIS, PAYMENT_ID, 1, replace(EVENT, kind=EventKind.STEP_FAILED)),
        seal(GENESIS, PAYMENT_ID, 1, replace(EVENT, at=NOW + timedelta(microseconds=1))),
        seal(GENESIS, PAYMENT_ID, 1, replace(EVENT, cause="sweep")),
        seal(GENESIS, PAYMENT_ID, 1, replace(EVENT, data={"note": "b", "n": 1})),
        seal(GENESIS, PAYMENT_ID, 1, replace(EVENT, data={"note": "a"})),
        seal(GENESIS, PAYMENT_ID, 1, replace(EVENT, data={"note": "a", "n": "1"})),
    ],
    ids=["previous", "payment", "seq", "kind", "at", "cause", "value", "key", "type"],
)
def test_hash_changes_with_every_part(other: bytes) -> None:
    assert other != SEALED


def test_order_of_keys_does_not_count() -> None:
    turned = replace(EVENT, data={"n": 1, "note": "a"})

    assert seal(GENESIS, PAYMENT_ID, 1, turned) == SEALED


@settings(deadline=None, derandomize=True, max_examples=60)
@given(length=st.integers(1, 8), data=st.data())
def test_editing_a_line_breaks_its_hash_and_all_that_follow(
    length: int, data: st.DataObject
) -> None:
    events = [replace(EVENT, data={"note": str(number)}) for number in range(length)]
    edited = data.draw(st.integers(0, length - 1))
    forged = [*events]
    forged[edited] = replace(EVENT, data={"note": "forged"})

    before, after = sealed(events), sealed(forged)

    assert before[:edited] == after[:edited]
    assert all(one != other for one, other in zip(before[edited:], after[edited:], strict=True))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(length=st.integers(2, 8), data=st.data())
def test_removing_a_line_changes_the_newest_hash(length: int, data: st.DataObject) -> None:
    events = [replace(EVENT, data={"note": str(number)}) for number in range(length)]
    removed = data.draw(st.integers(0, length - 1))

    shortened = sealed(events[:removed] + events[removed + 1 :])

    assert shortened[-1] != sealed(events)[-1]
