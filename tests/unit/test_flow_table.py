"""The flow's table, read from both sides: what it allows and what it refuses."""

from itertools import product

import pytest

from app.domain.flow import (
    MOVES,
    REST_STATES,
    STAYS,
    TRANSITIONS,
    FlowEvent,
    FlowState,
    next_state,
)
from app.domain.payment import Change, EventKind
from app.errors import IllegalTransition
from tests.support.builders import NOW, a_payment

S, E = FlowState, FlowEvent

REFUSED = sorted(set(product(FlowState, FlowEvent)) - set(TRANSITIONS))

#: contract.md section 5, row by row: the step, how it ended, where that leads.
CONTRACT = [
    (S.FRAUD_CHECK, E.FRAUD_CHECK_PASSED, S.PREAUTH),
    (S.FRAUD_CHECK, E.FRAUD_CHECK_REFUSED, S.DECLINED),
    (S.PREAUTH, E.AUTHORISATION_SUCCEEDED, S.BOOKING_CONFIRMATION),
    (S.PREAUTH, E.AUTHORISATION_REFUSED, S.DECLINED),
    (S.BOOKING_CONFIRMATION, E.BOOKING_CONFIRMED_FOR_CAPTURE, S.CAPTURE),
    (S.BOOKING_CONFIRMATION, E.BOOKING_CONFIRMED, S.EMAIL),
    (S.BOOKING_CONFIRMATION, E.BOOKING_REFUSED, S.COMPENSATING),
    (S.CAPTURE, E.CAPTURE_SUCCEEDED, S.EMAIL),
    (S.CAPTURE, E.CAPTURE_REFUSED, S.COMPENSATING),
    (S.EMAIL, E.MAIL_SENT, S.FIN),
    (S.EMAIL, E.MAIL_FAILED, S.FIN),
    (S.COMPENSATING, E.UNDO_COMPLETED, S.COMPENSATED),
    (S.COMPENSATING, E.UNDO_FAILED, S.MANUAL_REVIEW),
    (S.DECLINED, E.AUTHORISATION_SUCCEEDED, S.BOOKING_CONFIRMATION),
    (S.DECLINED, E.MONEY_CAME_LATE, S.COMPENSATING),
    (S.COMPENSATED, E.MONEY_CAME_LATE, S.COMPENSATING),
]

#: Money that comes after the end. Nothing but that and a person wakes a payment that rests.
LEAVES_REST = {
    (S.DECLINED, E.AUTHORISATION_SUCCEEDED),
    (S.DECLINED, E.MONEY_CAME_LATE),
    (S.COMPENSATED, E.MONEY_CAME_LATE),
    (S.DECLINED, E.ANSWER_CAME_LATE),
    (S.COMPENSATED, E.ANSWER_CAME_LATE),
    (S.DECLINED, E.AUTHORISATION_FELL_SHORT),
}

#: What only a person does.
A_PERSONS = {
    (S.FRAUD_CHECK, E.ABANDONED): S.COMPENSATING,
    (S.PREAUTH, E.ABANDONED): S.COMPENSATING,
    (S.BOOKING_CONFIRMATION, E.ABANDONED): S.COMPENSATING,
    (S.CAPTURE, E.ABANDONED): S.COMPENSATING,
    (S.MANUAL_REVIEW, E.ABANDONED): S.COMPENSATING,
    (S.MANUAL_REVIEW, E.CAPTURE_RESUMED): S.CAPTURE,
    (S.MANUAL_REVIEW, E.CAPTURE_SKIPPED): S.EMAIL,
    (S.MANUAL_REVIEW, E.UNDO_RESUMED): S.COMPENSATING,
    (S.MANUAL_REVIEW, E.UNDO_SKIPPED): S.COMPENSATING,
    (S.MANUAL_REVIEW, E.FORCED_FIN): S.FIN,
    (S.MANUAL_REVIEW, E.FORCED_COMPENSATED): S.COMPENSATED,
    (S.MANUAL_REVIEW, E.FORCED_DECLINED): S.DECLINED,
}


@pytest.mark.parametrize(("state", "event", "after"), CONTRACT)
def test_every_row_of_the_contract_is_a_move(
    state: FlowState, event: FlowEvent, after: FlowState
) -> None:
    assert MOVES[state, event] is after


@pytest.mark.parametrize(("row", "after"), TRANSITIONS.items(), ids=str)
def test_every_row_leads_where_it_says(row: tuple[FlowState, FlowEvent], after: FlowState) -> None:
    assert next_state(*row) is after


@pytest.mark.parametrize(("state", "event"), REFUSED)
def test_every_other_pair_is_refused_by_name(state: FlowState, event: FlowEvent) -> None:
    with pytest.raises(IllegalTransition) as refusal:
        next_state(state, event)

    assert (refusal.value.state, refusal.value.event) == (state, event)


@pytest.mark.parametrize("state", FlowState)
def test_every_refusal_is_kept_and_moves_nothing(state: FlowState) -> None:
    refused = [event for known, event in REFUSED if known is state]
    change = Change(payment=a_payment(state=state), at=NOW, cause="test")

    has_moved = [change.move(event) for event in refused]

    assert not any(has_moved)
    assert change.payment.state is state
    assert {kept.kind for kept in change.events} == {EventKind.TRANSITION_REFUSED}
    assert [kept.data for kept in change.events] == [
        {"state": state, "event": event} for event in refused
    ]


def test_a_move_changes_the_state_and_a_stay_does_not() -> None:
    stays = {(state, event) for event, states in STAYS.items() for state in states}

    assert all(state is not after for (state, _event), after in MOVES.items())
    assert all(TRANSITIONS[state, event] is state for state, event in stays)
    assert stays.isdisjoint(MOVES)
    assert stays | set(MOVES) == set(TRANSITIONS)


def test_rest_states_are_those_of_the_contract() -> None:
    assert {S.FIN, S.DECLINED, S.COMPENSATED, S.MANUAL_REVIEW, S.EXTERNAL} == REST_STATES


def test_only_what_comes_late_and_a_person_leave_a_rest_state() -> None:
    leaving = {(state, event) for state, event in MOVES if state in REST_STATES}

    assert leaving == LEAVES_REST | {row for row in A_PERSONS if row[0] in REST_STATES}


def test_a_persons_rows_are_those_and_no_event_of_theirs_has_another() -> None:
    events = {event for _state, event in A_PERSONS}

    assert {row: after for row, after in TRANSITIONS.items() if row[1] in events} == A_PERSONS


def test_only_a_person_takes_a_payment_out_of_manual_review() -> None:
    leaving = {row for row in MOVES if row[0] is S.MANUAL_REVIEW}

    assert leaving == {row for row in A_PERSONS if row[0] is S.MANUAL_REVIEW}


@pytest.mark.parametrize(
    "state", [S.EMAIL, S.COMPENSATING, *sorted(REST_STATES - {S.MANUAL_REVIEW})]
)
def test_what_is_sold_undone_or_over_is_not_abandoned(state: FlowState) -> None:
    with pytest.raises(IllegalTransition):
        next_state(state, E.ABANDONED)


@pytest.mark.parametrize("state", [state for state in FlowState if state not in REST_STATES])
def test_every_working_state_has_a_way_to_rest(state: FlowState) -> None:
    assert _reachable_from(state) & REST_STATES


@pytest.mark.parametrize("state", sorted(set(FlowState) - {S.EXTERNAL}))
def test_every_state_but_external_is_reached_from_the_start(state: FlowState) -> None:
    assert state in _reachable_from(S.FRAUD_CHECK) | {S.FRAUD_CHECK}


@pytest.mark.parametrize("event", FlowEvent)
def test_every_event_has_a_row(event: FlowEvent) -> None:
    assert any(event is known for _state, known in MOVES)


def _reachable_from(state: FlowState) -> set[FlowState]:
    reached: set[FlowState] = set()
    border = {state}
    while border:
        border = {after for (before, _event), after in MOVES.items() if before in border} - reached
        reached |= border
    return reached
