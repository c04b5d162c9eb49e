"""Undos side by side: one that hangs keeps none from beginning, and one that fails waits for them.

What the evidence calls for may change between two tries: then it is another request.
"""

from datetime import datetime

import pytest

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import Fact, FactKind
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.asking import Ask, Wait
from app.sagas.compensation import OTHERS_WAIT, ROUNDS_MAX, failed_undo
from app.sagas.decisions import Decision, decide
from tests.support.builders import NOW, PSP_REFERENCE, a_fact, a_payment, a_step_record, later
from tests.support.sagas import DAY, SAGA

S, E, K = FlowState, FlowEvent, FactKind
ACT, UNDO = Direction.ACT, Direction.UNDO
HOUR = OTHERS_WAIT.total_seconds()

HELD = a_fact()
ALSO_HELD = a_fact(reference="PSP2", occurred_at=later(1))
CAPTURED = a_fact(K.CAPTURED, reference="CAP1", occurred_at=later(1))
RELEASED = a_fact(K.CANCELLED, reference="CAN1", occurred_at=later(2))

PREAUTH = a_step_record(S.PREAUTH, status=StepStatus.WAITING)
BOOKED = a_step_record(S.BOOKING_CONFIRMATION, status=StepStatus.DONE)
CAPTURE = a_step_record(S.CAPTURE, status=StepStatus.WAITING)
CANCEL = f"cancel:{PSP_REFERENCE}"


def told(kind: FactKind, reference: str, hold: str = PSP_REFERENCE) -> Fact:
    return a_fact(kind, reference=reference, occurred_at=later(3), payment_reference=hold)


def undoing(
    step: str,
    status: StepStatus = StepStatus.WAITING,
    *,
    round_: int = 1,
    request: str | None = None,
    reference: str = "CAN1",
    due: datetime | None = None,
) -> StepRecord:
    return a_step_record(
        step,
        UNDO,
        status,
        round_=round_,
        request=request,
        response={"psp_reference": reference},
        due=due,
    )


def decided(*records: StepRecord, facts: tuple[Fact, ...] = (HELD,), now: float = 0) -> Decision:
    return decide(
        SAGA,
        a_payment(state=S.COMPENSATING, facts=facts, psp_reference=PSP_REFERENCE),
        {(record.step, record.direction): record for record in records},
        now=later(now),
    )


def the_ask(decision: Decision) -> Ask:
    assert not isinstance(decision, (FlowEvent, Wait)), decision
    [ask] = decision
    return ask


@pytest.mark.parametrize("status", [StepStatus.ASKED, StepStatus.PUT_OFF, StepStatus.SENT])
def test_booking_service_that_is_away_does_not_keep_the_shoppers_money(status: StepStatus) -> None:
    """F28."""
    hanging = undoing(S.BOOKING_CONFIRMATION, status, due=later(50))

    assert the_ask(decided(PREAUTH, BOOKED, hanging)).request.subject == CANCEL


def test_undo_waits_for_whichever_of_them_comes_first() -> None:
    hanging = undoing(S.BOOKING_CONFIRMATION, StepStatus.ASKED, due=later(50))
    releasing = undoing(S.PREAUTH, request=CANCEL)

    assert decided(PREAUTH, BOOKED, hanging, releasing) == Wait(later(50))


def test_hold_is_not_released_while_its_capture_is_being_refunded() -> None:
    """F27: both are about the same money."""
    refunding = undoing(S.CAPTURE, request=f"refund:{PSP_REFERENCE}:12500", reference="REF1")

    decision = decided(PREAUTH, CAPTURE, refunding, facts=(HELD, CAPTURED))

    assert decision == Wait(later(60))


def test_booking_is_cancelled_while_the_refund_waits_for_its_webhook() -> None:
    refunding = undoing(S.CAPTURE, request=f"refund:{PSP_REFERENCE}:12500", reference="REF1")

    ask = the_ask(decided(PREAUTH, BOOKED, CAPTURE, refunding, facts=(HELD, CAPTURED)))

    assert (ask.request.service_id, ask.request.operation) == ("booking", "cancel")


@pytest.mark.parametrize(
    ("other_is_due", "decision"),
    [(1, Wait(later(1))), (HOUR, Wait(later(HOUR))), (HOUR + 1, E.UNDO_FAILED)],
)
def test_person_is_not_asked_yet_about_one_undo_while_another_one_goes_on(
    other_is_due: float, decision: Decision
) -> None:
    """F29: one look at the payment is enough, unless it would come late."""
    refused = undoing(S.BOOKING_CONFIRMATION, StepStatus.REFUSED)
    failing = undoing(S.PREAUTH, StepStatus.ASKED, request=CANCEL, due=later(other_is_due))

    assert decided(PREAUTH, BOOKED, refused, failing) == decision


def test_person_is_told_which_undo_failed_not_which_one_goes_on() -> None:
    """F29."""
    tomorrow = undoing(S.BOOKING_CONFIRMATION, StepStatus.ASKED, due=later(DAY))
    refused = undoing(S.PREAUTH, request=CANCEL)
    records = [PREAUTH, BOOKED, tomorrow, refused]
    facts = (HELD, told(K.CANCEL_REFUSED, "CAN1"))

    failed = failed_undo(
        SAGA,
        a_payment(state=S.COMPENSATING, facts=facts, psp_reference=PSP_REFERENCE),
        {(record.step, record.direction): record for record in records},
        now=NOW,
    )

    assert decided(*records, facts=facts) is E.UNDO_FAILED
    assert failed == S.PREAUTH


def test_other_request_is_another_decision_under_another_key() -> None:
    """F28: the old key would bring back the old answer."""
    failed = undoing(S.PREAUTH, StepStatus.ASKED, request=CANCEL, reference="", due=later(50))

    ask = the_ask(decided(PREAUTH, failed, facts=(HELD, ALSO_HELD, told(K.CANCELLED, "X"))))

    assert ask.request.subject == "cancel:PSP2"
    assert (ask.record.round, ask.record.attempts, ask.record.request) == (2, 1, "cancel:PSP2")


def test_cancel_by_our_reference_is_waited_for_before_one_by_the_psps_is_sent() -> None:
    """F31: two requests about the same money would only refuse each other."""
    by_ours = undoing(S.PREAUTH, request="cancel")

    assert decided(PREAUTH, by_ours, now=59) == Wait(later(60))
    ask = the_ask(decided(PREAUTH, by_ours, now=60))
    assert (ask.request.subject, ask.record.round) == (CANCEL, 2)


def test_release_that_overtook_its_authorisation_is_asked_for_again_as_soon_as_it_is_told() -> None:
    """F31: the PSP confirms a void that found nothing to void, and authorises after it."""
    by_ours = undoing(S.PREAUTH, request="cancel")
    early = a_fact(K.CANCELLED, reference="CAN1", amount_minor=0, occurred_at=later(-5))

    ask = the_ask(decided(PREAUTH, by_ours, facts=(HELD, early)))

    assert (ask.request.subject, ask.record.round) == (CANCEL, 2)


def test_second_hold_is_released_when_the_psp_has_told_of_the_first() -> None:
    releasing = undoing(S.PREAUTH, request=CANCEL)

    waiting = decided(PREAUTH, releasing, facts=(HELD, ALSO_HELD))
    then = decided(PREAUTH, releasing, facts=(HELD, ALSO_HELD, told(K.CANCELLED, "CAN1")))

    assert waiting == Wait(later(60))
    assert the_ask(then).request.subject == "cancel:PSP2"


def test_second_hold_is_released_although_the_first_is_refused_and_then_a_person_is_asked() -> None:
    facts = (HELD, ALSO_HELD, told(K.CANCEL_REFUSED, "CAN1"))
    first = undoing(S.PREAUTH, request=CANCEL)
    second = undoing(S.PREAUTH, request="cancel:PSP2", round_=2, reference="CAN2")
    facts_then = (*facts, told(K.CANCELLED, "CAN2", "PSP2"))
    again = undoing(S.PREAUTH, request=CANCEL, round_=3, reference="CAN3")
    facts_last = (*facts_then, told(K.CANCEL_REFUSED, "CAN3"))

    assert the_ask(decided(PREAUTH, first, facts=facts)).request.subject == "cancel:PSP2"
    assert the_ask(decided(PREAUTH, second, facts=facts_then)).request.subject == CANCEL
    assert decided(PREAUTH, again, facts=facts_last) is E.UNDO_FAILED


def test_undo_is_not_decided_anew_for_ever() -> None:
    """F29."""
    last = undoing(S.PREAUTH, request="cancel:PSP2", round_=ROUNDS_MAX)
    facts = (HELD, told(K.CANCELLED, "CAN1", "PSP2"))

    assert decided(PREAUTH, last, facts=facts) is E.UNDO_FAILED


def test_release_that_another_system_made_ends_the_undo_without_another_call() -> None:
    failing = undoing(S.PREAUTH, StepStatus.ASKED, request=CANCEL, due=later(50))

    assert decided(PREAUTH, failing, facts=(HELD, RELEASED)) is E.UNDO_COMPLETED
