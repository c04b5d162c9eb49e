"""Goal: whatever is on record, a decision is one that the flow's table allows.

Method: any facts, any step records, any time, for every working state. The runner treats an event
without a row as a bug in the definition, so none may ever come out.
"""

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.flow import MOVES, REST_STATES, FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.booking import booking_saga
from app.sagas.decisions import Ask, Wait, decide
from tests.support.builders import a_fact, a_payment, a_step_record, later

SAGA = booking_saga(decision_window_seconds=900)

SECONDS = st.integers(0, 10).map(lambda power: later(4.0**power))

FACTS = st.lists(
    st.builds(
        a_fact,
        st.sampled_from(FactKind),
        reference=st.sampled_from(["PAY", "MOD"]),
        amount_minor=st.sampled_from([0, 100, 12500]),
        occurred_at=SECONDS,
    ),
    max_size=4,
).map(tuple)

RECORDS = st.lists(
    st.builds(
        a_step_record,
        st.sampled_from([step.name for step in SAGA.steps]),
        st.sampled_from(Direction),
        st.sampled_from(StepStatus),
        attempts=st.integers(1, 12),
        response=st.sampled_from([{}, {"result": "Refused"}, {"result": "Authorised"}]),
    ),
    max_size=5,
)


@pytest.mark.parametrize("state", [state for state in FlowState if state not in REST_STATES])
@settings(deadline=None, derandomize=True, max_examples=50)
@given(facts=FACTS, records=RECORDS, now=SECONDS, has_just_called=st.booleans())
def test_every_decision_is_a_row_of_the_table_or_a_call_or_a_wait(
    state: FlowState,
    facts: tuple[Fact, ...],
    records: list[StepRecord],
    now: datetime,
    *,
    has_just_called: bool,
) -> None:
    decision = decide(
        SAGA,
        a_payment(state=state, facts=facts),
        {(record.step, record.direction): record for record in records},
        now=now,
        just_called=records[0] if has_just_called and records else None,
    )

    match decision:
        case FlowEvent():
            assert (state, decision) in MOVES
        case Wait():
            assert decision.due >= now
        case Ask():
            assert decision.record.attempts >= 1
            assert decision.record.asked_at == now
