"""What a saga is made of: stages of steps with names of their own, retries, a pivot, versions."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from app.domain.flow import MOVES, REST_STATES, FlowEvent, FlowState
from app.domain.payment import CaptureMode
from app.errors import DefinitionUnknown
from app.sagas.booking import booking_saga
from app.sagas.definition import Definitions, RetryPolicy, Saga, Stage, Step
from app.settings import Settings
from tests.support.builders import a_payment, a_step_record
from tests.support.sagas import DEFINITIONS, SAGA, STAGE_OF, UNDO_RETRY, with_insurance

S, E = FlowState, FlowEvent

FRAUD_CHECK, PREAUTH, BOOKING, CAPTURE, EMAIL = SAGA.stages


def a_saga(*stages: Stage) -> Saga:
    return Saga(call_seconds_max=25, name="test", version=1, stages=stages)


def stage_with(stage: Stage, **changes: FlowEvent) -> Stage:
    """The stage, its first step changed."""
    return replace(stage, steps=(replace(stage.steps[0], **changes),))  # type: ignore[arg-type]


def test_delay_follows_the_schedule_and_ends_with_it() -> None:
    policy = RetryPolicy((1, 5, 60))

    assert [policy.delay_after(attempts) for attempts in range(6)] == [0, 1, 5, 60, None, None]


def test_schedule_that_goes_on_repeats_its_last_delay() -> None:
    policy = RetryPolicy((1, 5), goes_on=True)

    assert [policy.delay_after(attempts) for attempts in range(1, 5)] == [1, 5, 5, 5]


@pytest.mark.parametrize(
    "stages",
    [
        (replace(FRAUD_CHECK, steps=FRAUD_CHECK.steps[:1] * 2),),
        (replace(FRAUD_CHECK, steps=PREAUTH.steps), PREAUTH),
    ],
    ids=["in one stage", "in two"],
)
def test_two_steps_with_one_name_are_refused(stages: tuple[Stage, ...]) -> None:
    with pytest.raises(ValueError, match="repeats a step name"):
        a_saga(*stages)


@pytest.mark.parametrize(
    "on_done",
    [
        {S.BOOKING_CONFIRMATION: E.FRAUD_CHECK_PASSED},
        {S.PREAUTH: E.FRAUD_CHECK_REFUSED},
    ],
    ids=["to another state", "by another event"],
)
def test_event_that_does_not_lead_where_the_stage_says_is_refused(
    on_done: Mapping[FlowState, FlowEvent],
) -> None:
    with pytest.raises(ValueError, match="does not lead from fraud_check to"):
        a_saga(replace(FRAUD_CHECK, on_done=on_done))


@pytest.mark.parametrize("way_out", ["on_refused", "on_rejected"])
@pytest.mark.parametrize("event", [E.CAPTURE_REFUSED, E.AUTHORISATION_REFUSED])
def test_way_out_that_leads_nowhere_is_refused(way_out: str, event: FlowEvent) -> None:
    """A row that stays is none either: the saga would decide the same for ever."""
    with pytest.raises(ValueError, match="leads nowhere from fraud_check"):
        a_saga(stage_with(FRAUD_CHECK, **{way_out: event}))


@pytest.mark.parametrize("way_out", ["on_refused", "on_rejected"])
def test_no_stage_after_the_pivot_may_end_in_declined(way_out: str) -> None:
    pivot = replace(EMAIL, is_pivot=True)

    with pytest.raises(ValueError, match="comes after the pivot and may be declined"):
        a_saga(pivot, stage_with(PREAUTH, **{way_out: E.AUTHORISATION_REJECTED}))


def test_before_the_pivot_a_no_declines_and_at_it_something_is_sold() -> None:
    pivots = [stage.state for stage in SAGA.stages if stage.is_pivot]

    assert pivots == [S.BOOKING_CONFIRMATION]
    assert MOVES[S.PREAUTH, PREAUTH.steps[0].on_refused] is S.DECLINED


def test_every_working_state_but_compensating_has_its_stage_in_the_order_of_the_flow() -> None:
    states = [stage.state for stage in SAGA.stages]

    assert states == [S.FRAUD_CHECK, S.PREAUTH, S.BOOKING_CONFIRMATION, S.CAPTURE, S.EMAIL]
    assert set(states) == set(FlowState) - REST_STATES - {S.COMPENSATING}
    assert [SAGA.stage(state) for state in states] == list(SAGA.stages)


def test_steps_are_told_in_the_order_of_their_stages() -> None:
    assert [step.name for step in SAGA.steps] == [
        "fraud_check",
        "fraud_rules",
        "preauth",
        "booking_confirmation",
        "capture",
        "email",
    ]


@pytest.mark.parametrize(
    ("stage", "capture", "event"),
    [
        (FRAUD_CHECK, CaptureMode.MANUAL, E.FRAUD_CHECK_PASSED),
        (PREAUTH, CaptureMode.MANUAL, E.AUTHORISATION_SUCCEEDED),
        (BOOKING, CaptureMode.AUTOMATIC, E.BOOKING_CONFIRMED_FOR_CAPTURE),
        (BOOKING, CaptureMode.MANUAL, E.BOOKING_CONFIRMED),
        (CAPTURE, CaptureMode.AUTOMATIC, E.CAPTURE_SUCCEEDED),
        (EMAIL, CaptureMode.AUTOMATIC, E.MAIL_SENT),
    ],
)
def test_flow_goes_on_to_the_next_stage_that_applies(
    stage: Stage, capture: CaptureMode, event: FlowEvent
) -> None:
    assert SAGA.on_done(stage, a_payment(capture=capture)) is event


@pytest.mark.parametrize("step", SAGA.steps, ids=lambda step: step.name)
def test_giving_up_and_a_no_move_the_flow(step: Step) -> None:
    state = STAGE_OF[step.name].state
    ways_out = [step.on_refused, step.on_rejected, step.on_unresolved(a_step_record(step.name))]

    assert all((state, event) in MOVES for event in ways_out)


@pytest.mark.parametrize(
    ("name", "is_undone"),
    [
        ("fraud_check", False),
        ("fraud_rules", False),
        ("preauth", True),
        ("booking_confirmation", True),
        ("capture", True),
        ("email", False),
    ],
)
def test_each_step_names_what_undoes_it(name: str, *, is_undone: bool) -> None:
    [step] = [step for step in SAGA.steps if step.name == name]

    assert (step.undo is not None) is is_undone


def test_authorisation_may_take_as_long_as_the_shopper_wants_it() -> None:
    [preauth] = (
        booking_saga(decision_window_seconds=7, undo_retry=UNDO_RETRY, call_seconds_max=25)
        .newest.stage(S.PREAUTH)
        .steps
    )

    assert preauth.deadline_seconds == 7


def test_undo_is_tried_at_growing_distances_for_days_unless_the_settings_say_otherwise() -> None:
    delays = [
        float(delay) for delay in Settings.model_fields["undo_delays_seconds"].default.split(",")
    ]

    assert all(earlier <= later for earlier, later in pairwise(delays))
    assert sum(delays) > 4 * 24 * 3600


def test_new_sagas_begin_under_the_newest_version_and_older_ones_can_still_be_run() -> None:
    """F34."""
    newer = with_insurance(DEFINITIONS)

    assert (DEFINITIONS.newest.version, DEFINITIONS.versions) == (2, [2, 1])
    assert (newer.newest.version, newer.versions) == (3, [3, 2, 1])
    assert newer.version(2) is DEFINITIONS.newest
    assert newer.name == DEFINITIONS.name == "booking"
    assert list(newer) == [newer.newest, *DEFINITIONS]


def test_first_version_asked_the_outside_fraud_check_only() -> None:
    """F34."""
    first = DEFINITIONS.version(1).stage(S.FRAUD_CHECK)

    assert [step.name for step in first.steps] == ["fraud_check"]
    assert [step.name for step in FRAUD_CHECK.steps] == ["fraud_check", "fraud_rules"]


def test_version_that_this_release_does_not_know_is_told() -> None:
    with pytest.raises(DefinitionUnknown, match="version 99 of the saga booking"):
        Definitions(SAGA).version(99)
