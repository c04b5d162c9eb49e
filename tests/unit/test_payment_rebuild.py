"""Goal: a payment is the fold of its events, however it came to them.

Method: any sequence of facts, moves (legal or not) and notes, applied to a payment stepwise as the
use cases do, against the payment that is built again from the events alone.
"""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.facts import Fact, FactKind
from app.domain.flow import FlowEvent
from app.domain.payment import Change, EventKind, PaymentEvent, begin, rebuild
from tests.support.builders import NOW, PAYMENT_ID, a_fact, a_started_event, later

STARTED = a_started_event()

Action = FlowEvent | tuple[Fact, str | None] | str

ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.sampled_from(FlowEvent),
    st.sampled_from(["the merchant called", "noted"]),
    st.tuples(
        st.builds(
            a_fact,
            st.sampled_from(FactKind),
            reference=st.sampled_from(["PAY1", "PAY2", "MOD1"]),
            amount_minor=st.integers(0, 3),
            occurred_at=st.integers(0, 3).map(later),
            payment_reference=st.sampled_from([None, "PAY1", "PAY2"]),
        ),
        st.sampled_from([None, "PAY1", "PAY2"]),
    ),
)

quick = settings(deadline=None, derandomize=True, max_examples=60)


def changed_by(actions: list[Action]) -> Change:
    change = Change(payment=begin(PAYMENT_ID, STARTED), at=later(1), cause="test", events=[STARTED])
    for action in actions:
        match action:
            case FlowEvent():
                change.move(action, why="a test")
            case str():
                change.add(EventKind.NOTED, {"note": action})
            case (fact, payment_psp_reference):
                change.record_fact(fact, payment_psp_reference=payment_psp_reference)
    return change


@quick
@given(actions=st.lists(ACTIONS, max_size=20))
def test_fold_of_the_events_is_the_payment(actions: list[Action]) -> None:
    change = changed_by(actions)

    assert rebuild(PAYMENT_ID, change.events) == change.payment


@quick
@given(actions=st.lists(ACTIONS, max_size=20))
def test_fold_of_events_that_were_stored_as_json_is_the_payment(actions: list[Action]) -> None:
    change = changed_by(actions)
    stored = [
        replace(event, data=json.loads(json.dumps(dict(event.data)))) for event in change.events
    ]

    assert rebuild(PAYMENT_ID, stored) == change.payment


@quick
@given(actions=st.lists(ACTIONS, max_size=20))
def test_version_counts_the_events(actions: list[Action]) -> None:
    change = changed_by(actions)

    assert change.payment.version == len(change.events)


def test_fold_of_the_first_event_is_the_payment_that_begins() -> None:
    assert rebuild(PAYMENT_ID, [STARTED]) == begin(PAYMENT_ID, STARTED)


def test_payment_carries_the_time_of_its_first_and_of_its_last_event() -> None:
    noted = PaymentEvent(kind=EventKind.NOTED, at=later(9), cause="test", data={"note": "late"})

    payment = rebuild(PAYMENT_ID, [STARTED, noted])

    assert (payment.created_at, payment.updated_at) == (NOW, later(9))
