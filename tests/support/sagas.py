"""The booking saga as tests run it, and one of whose stages has two steps that can be undone."""

from dataclasses import replace

from app.domain.facts import Fact
from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import Payment
from app.domain.saga import Request
from app.sagas.booking import HOUR, booking_saga
from app.sagas.definition import (
    DecidedBy,
    Definitions,
    Records,
    RetryPolicy,
    Saga,
    Stage,
    Step,
    Undo,
)

DAY = 24 * HOUR
WINDOW = 900
UNDO_RETRY = RetryPolicy((2, 10, 60, 300, HOUR, DAY, DAY, DAY, DAY, DAY))
DEFINITIONS = booking_saga(
    decision_window_seconds=WINDOW, undo_retry=UNDO_RETRY, call_seconds_max=25
)
SAGA = DEFINITIONS.newest
STEPS = {step.name: step for step in SAGA.steps}
STAGE_OF = {step.name: stage for stage in SAGA.stages for step in stage.steps}


def insure(payment: Payment) -> Request:
    return Request(service_id="insurance", operation="insure", data={"id": str(payment.payment_id)})


def end_insurance(payment: Payment, _records: Records) -> Request:
    return Request(service_id="insurance", operation="end", data={"id": str(payment.payment_id)})


#: Beside the booking, the trip is insured: with whom, and how fast, has nothing to do with it.
INSURANCE = Step(
    name="insurance",
    request=insure,
    decided_by=DecidedBy.RESPONSE,
    evidence=lambda _: None,
    retry=RetryPolicy((1, 5, 60)),
    deadline_seconds=600,
    on_refused=FlowEvent.BOOKING_REFUSED,
    on_rejected=FlowEvent.BOOKING_REFUSED,
    on_unresolved=lambda _: FlowEvent.BOOKING_UNRESOLVED,
    undo=Undo(
        request=end_insurance,
        decided_by=DecidedBy.RESPONSE,
        is_needed=lambda _, record: record is not None and record.status != "refused",
        is_done=lambda _: False,
        is_refused=lambda *_: False,
        retry=UNDO_RETRY,
    ),
)


def with_insurance(definitions: Definitions = DEFINITIONS) -> Definitions:
    """The next version: the booking stage has the insurance beside the booking."""
    saga = definitions.newest

    def beside(stage: Stage) -> Stage:
        is_booking = stage.state is FlowState.BOOKING_CONFIRMATION
        return replace(stage, steps=(*stage.steps, INSURANCE)) if is_booking else stage

    newest = Saga(
        call_seconds_max=25,
        name=saga.name,
        version=saga.version + 1,
        stages=tuple(beside(stage) for stage in saga.stages),
    )
    return Definitions(newest, older=tuple(definitions))


def held_where_it_must_be(state: FlowState, authorised: Fact) -> tuple[Fact, ...]:
    """The authorisation, where the flow comes to after it."""
    is_later = state not in {FlowState.FRAUD_CHECK, FlowState.PREAUTH}
    return (authorised,) if is_later else ()
