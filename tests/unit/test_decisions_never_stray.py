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
from app.domain.payment import CaptureMode
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.asking import Wait
from app.sagas.decisions import decide
from app.sagas.definition import Saga
from tests.support.builders import a_fact, a_payment, a_step_record, later
from tests.support.sagas import INSURANCE, SAGA, with_insurance

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
        st.sampled_from([*(step.name for step in SAGA.steps), INSURANCE.name]),
        st.sampled_from(Direction),
        st.sampled_from(StepStatus),
        round_=st.integers(1, 6),
        attempts=st.integers(0, 12),
        request=st.sampled_from([None, "cancel", "cancel:PAY", "refund:PAY:100"]),
        response=st.sampled_from(
            [{}, {"result": "Refused"}, {"result": "Authorised"}, {"psp_reference": "MOD"}]
        ),
        due=st.none() | SECONDS,
    ),
    max_size=6,
)


@pytest.mark.parametrize("state", [state for state in FlowState if state not in REST_STATES])
@pytest.mark.parametrize("saga", [SAGA, with_insurance().newest], ids=["ours", "side by side"])
@settings(deadline=None, derandomize=True, max_examples=100)
@given(facts=FACTS, records=RECORDS, now=SECONDS, capture=st.sampled_from(CaptureMode))
def test_every_decision_is_a_row_of_the_table_or_calls_or_a_wait(
    *,
    saga: Saga,
    state: FlowState,
    facts: tuple[Fact, ...],
    records: list[StepRecord],
    now: datetime,
    capture: CaptureMode,
) -> None:
    """F36: and so no payment is ever without a future."""
    if state is FlowState.CAPTURE:
        capture = CaptureMode.AUTOMATIC  # no other payment comes there

    decision = decide(
        saga,
        a_payment(state=state, facts=facts, capture=capture),
        {(record.step, record.direction): record for record in records},
        now=now,
    )

    match decision:
        case FlowEvent():
            assert (state, decision) in MOVES
        case Wait():
            assert decision.due >= now
        case asks:
            assert asks
            assert all(ask.record.attempts >= 1 for ask in asks)
            assert {ask.record.asked_at for ask in asks} == {now}
