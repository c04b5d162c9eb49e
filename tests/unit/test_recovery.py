"""What an operator's word makes of the step records: keys that may have acted are kept (F29)."""

from dataclasses import replace

import pytest

from app.domain.facts import Fact, FactKind
from app.domain.flow import FlowState
from app.domain.payment import Payment
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.asking import Ask
from app.sagas.compensation import failed_undo
from app.sagas.decisions import decide
from app.sagas.definition import Records
from app.sagas.recovery import Recovery
from tests.support.builders import PSP_REFERENCE, a_fact, a_payment, a_step_record, later
from tests.support.sagas import DEFINITIONS, SAGA

S, K, T = FlowState, FactKind, StepStatus
ACT, UNDO = Direction.ACT, Direction.UNDO

RECOVERY = Recovery(DEFINITIONS)
NOW = later(1000)

AUTHORISED = a_fact()
CAPTURED = a_fact(K.CAPTURED, reference="CAP1", occurred_at=later(1))
CANCEL = f"cancel:{PSP_REFERENCE}"
REFUND = f"refund:{PSP_REFERENCE}:12500"


def undoing(
    step: str,
    status: StepStatus,
    *,
    request: str | None = None,
    reference: str | None = None,
    attempts: int = 11,
) -> StepRecord:
    response = {"psp_reference": reference} if reference else {}
    return a_step_record(step, UNDO, status, attempts=attempts, request=request, response=response)


def records(*given: StepRecord) -> Records:
    held = a_step_record(S.PREAUTH, status=T.WAITING)
    return {(record.step, record.direction): record for record in (held, *given)}


def compensating(*facts: Fact) -> Payment:
    return a_payment(state=S.COMPENSATING, facts=(AUTHORISED, *facts), psp_reference=PSP_REFERENCE)


def again(payment: Payment, *given: StepRecord) -> list[StepRecord]:
    return RECOVERY.undo_again(SAGA.version, payment, records(*given), now=NOW)


def skipped(payment: Payment, step: str | None, *given: StepRecord) -> list[StepRecord]:
    return RECOVERY.undo_skipped(
        SAGA.version, payment, records(*given), step=step, note={"operator": "ada"}, now=NOW
    )


@pytest.mark.parametrize("status", [T.ASKED, T.PUT_OFF, T.SENT, T.WAITING, T.UNRESOLVED])
def test_an_open_capture_keeps_its_key_and_has_its_patience_again(status: StepStatus) -> None:
    asked = a_step_record(S.CAPTURE, status=status, attempts=30, due=later(9))

    [capture] = RECOVERY.capture_again(SAGA.version, records(asked), now=NOW)

    assert capture == replace(asked, status=T.ASKED, attempts=1, started_at=NOW, due=None)


@pytest.mark.parametrize("status", [T.DONE, T.REFUSED, T.REJECTED])
def test_a_capture_whose_outcome_is_known_is_left_as_it_is(status: StepStatus) -> None:
    asked = a_step_record(S.CAPTURE, status=status)

    assert RECOVERY.capture_again(SAGA.version, records(asked), now=NOW) == []


def test_a_capture_that_was_never_asked_for_is_not_asked_again() -> None:
    assert RECOVERY.capture_again(SAGA.version, records(), now=NOW) == []


@pytest.mark.parametrize(
    ("undo", "facts"),
    [
        (undoing(S.PREAUTH, T.REFUSED, request=CANCEL), ()),
        (
            undoing(S.PREAUTH, T.WAITING, request=CANCEL, reference="CAN1"),
            (a_fact(K.CANCEL_REFUSED, reference="CAN1", occurred_at=later(2)),),
        ),
        (
            undoing(S.PREAUTH, T.WAITING, request=REFUND, reference="REF1"),
            (
                CAPTURED,
                a_fact(K.REFUNDED, reference="REF1", occurred_at=later(2)),
                a_fact(K.REFUND_FAILED, reference="REF1", occurred_at=later(3)),
            ),
        ),
        (undoing(S.PREAUTH, T.WAITING, request=CANCEL, reference="CAN1"), (CAPTURED,)),
        (undoing(S.PREAUTH, T.ASKED, request=CANCEL), ()),
        (undoing(S.PREAUTH, T.PUT_OFF, request=CANCEL), ()),
        (undoing(S.PREAUTH, T.SENT, request=CANCEL), ()),
    ],
    ids=[
        "it was refused",
        "its webhook refused it",
        "it failed after all",
        "another request is called for",
        "a cancellation without an answer",
        "a cancellation that never left",
        "a cancellation that a participant did not answer",
    ],
)
def test_a_new_decision_is_made_where_the_old_key_brings_nothing(
    undo: StepRecord, facts: tuple[Fact, ...]
) -> None:
    [registered] = again(compensating(*facts), undo)

    assert (registered.status, registered.round, registered.attempts) == (T.REGISTERED, 2, 0)
    assert (registered.request, registered.response, registered.due) == (None, {}, None)


@pytest.mark.parametrize(
    ("status", "request_", "facts"),
    [
        (T.ASKED, REFUND, (CAPTURED,)),
        (T.PUT_OFF, REFUND, (CAPTURED,)),
        (T.SENT, REFUND, (CAPTURED,)),
        (T.WAITING, REFUND, (CAPTURED,)),
        (T.WAITING, CANCEL, ()),
    ],
)
def test_what_may_have_moved_money_or_was_taken_is_asked_again_under_its_own_key(
    status: StepStatus, request_: str, facts: tuple[Fact, ...]
) -> None:
    undo = undoing(S.PREAUTH, status, request=request_)

    [same] = again(compensating(*facts), undo)

    assert same == replace(undo, status=T.ASKED, attempts=1, started_at=NOW, due=None)


@pytest.mark.parametrize(
    "undo", [(), (undoing(S.PREAUTH, T.REGISTERED),), (undoing(S.PREAUTH, T.DONE),)]
)
def test_what_was_not_asked_or_is_done_is_left_as_it_is(undo: tuple[StepRecord, ...]) -> None:
    assert again(compensating(), *undo) == []


def test_what_the_evidence_shows_to_be_undone_is_not_asked_again() -> None:
    released = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(2))

    assert again(compensating(released), undoing(S.PREAUTH, T.REFUSED, request=CANCEL)) == []


@pytest.mark.parametrize("request_", [CANCEL, REFUND])
@pytest.mark.parametrize("status", [T.ASKED, T.PUT_OFF, T.WAITING, T.REFUSED])
def test_whatever_failed_is_asked_at_once_when_it_is_resumed(
    status: StepStatus, request_: str
) -> None:
    payment = compensating(*(() if request_ == CANCEL else (CAPTURED,)))
    given = records(undoing(S.PREAUTH, status, request=request_))
    resumed = {
        **given,
        **{
            (record.step, record.direction): record
            for record in RECOVERY.undo_again(SAGA.version, payment, given, now=NOW)
        },
    }

    decision = decide(SAGA, payment, resumed, now=NOW)

    assert isinstance(decision, list)
    [ask] = decision
    assert isinstance(ask, Ask)
    assert ask.request.subject == request_


def test_a_skipped_undo_is_done_and_keeps_what_the_party_said() -> None:
    undo = undoing(S.PREAUTH, T.REFUSED, request=CANCEL, reference="CAN1")

    [done] = skipped(compensating(), S.PREAUTH, undo)

    assert done.status is T.DONE
    assert done.response == {"psp_reference": "CAN1", "operator": "ada"}
    assert (done.round, done.request) == (undo.round, undo.request)


def test_with_the_captures_undo_the_same_money_is_skipped_everywhere() -> None:
    undo = undoing(S.CAPTURE, T.ASKED, request=REFUND)

    done = skipped(compensating(CAPTURED), S.CAPTURE, undo)

    assert {(record.step, record.status) for record in done} == {
        (S.PREAUTH, T.DONE),
        (S.CAPTURE, T.DONE),
    }


def test_skipping_the_bookings_undo_leaves_the_money_to_be_given_back() -> None:
    undo = undoing(S.BOOKING_CONFIRMATION, T.ASKED, request="cancel")

    assert [record.step for record in skipped(compensating(), S.BOOKING_CONFIRMATION, undo)] == [
        S.BOOKING_CONFIRMATION
    ]


def test_without_a_named_step_the_next_undo_is_skipped() -> None:
    assert [record.step for record in skipped(compensating(), None)] == [S.PREAUTH]


def test_the_undo_that_failed_is_named_not_one_that_still_waits() -> None:
    booked = a_step_record(S.BOOKING_CONFIRMATION, status=T.DONE)
    waits = replace(
        undoing(S.BOOKING_CONFIRMATION, T.ASKED, request="cancel", attempts=6),
        due=later(90_000),
    )
    refused = undoing(S.PREAUTH, T.REFUSED, request=CANCEL)

    named = failed_undo(SAGA, compensating(), records(booked, waits, refused), now=NOW)

    assert named == S.PREAUTH
