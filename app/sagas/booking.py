"""The booking saga: fraud check, preauth, booking confirmation, (capture), email.

Read ``booking_saga`` first: it is the flow as data. What gives the money back is in
``app.sagas.money_back``.
"""

from collections.abc import Mapping
from datetime import datetime

from app.domain.facts import Fact, FactKind
from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import CaptureMode, Payment
from app.domain.saga import Request, StepRecord, StepStatus
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
from app.sagas.money_back import capture_may_have_worked, undo_by_money_back

NAME = "booking"
HOUR = 3600


def check_fraud(payment: Payment) -> Request:
    """Ask whether the payment may go on."""
    return Request(service_id="fraud", operation="check", data=_shopper(payment))


def check_fraud_rules(payment: Payment) -> Request:
    """Ask the rules that are built in."""
    return Request(service_id="fraud_rules", operation="check", data=_shopper(payment))


def authorise(payment: Payment) -> Request:
    """Ask the PSP to hold the amount."""
    data = {
        "merchant_reference": payment.merchant_reference,
        **_amount(payment),
        "payment_method": dict(payment.details["payment_method"]),
    }
    return Request(service_id="psp", operation="authorise", data=data)


def confirm_booking(payment: Payment) -> Request:
    """Ask for the booking to be confirmed."""
    data = _booking(payment) | _amount(payment)
    return Request(service_id="booking", operation="confirm", data=data)


def cancel_booking(payment: Payment, _records: Records) -> Request:
    """Ask to cancel the booking, also one whose confirmation stayed without answer."""
    return Request(service_id="booking", operation="cancel", data=_booking(payment))


def capture(payment: Payment) -> Request:
    """Ask the PSP to capture the whole amount, of a hold that stands."""
    standing = (hold.reference for hold in payment.funds.holds if hold.held)
    reference = next(standing, None) or payment.psp_reference
    data = {"psp_reference": reference, **_amount(payment)}
    return Request(service_id="psp", operation="capture", data=data)


def send_confirmation(payment: Payment) -> Request:
    """Ask for the confirmation mail."""
    data = {
        "template": "confirmation",
        "to": payment.details["shopper"]["email"],
        "merchant_reference": payment.merchant_reference,
        **_booking(payment),
        **_amount(payment),
    }
    return Request(service_id="mail", operation="send", data=data)


def authorisation_evidence(payment: Payment) -> FlowEvent | None:
    """Read the outcome of the authorisation from the funds. True beats false."""
    if payment.funds.has(FactKind.AUTHORISED):
        covered, short = FlowEvent.AUTHORISATION_SUCCEEDED, FlowEvent.AUTHORISATION_FELL_SHORT
        return covered if payment.is_covered else short
    if payment.funds.has(FactKind.REFUSED):
        return FlowEvent.AUTHORISATION_REFUSED
    return None


def hold_evidence(payment: Payment) -> FlowEvent | None:
    """A hold that is gone before the booking is settled: nothing is booked without money."""
    return None if payment.is_covered else FlowEvent.HOLD_RELEASED


def capture_evidence(payment: Payment) -> FlowEvent | None:
    """Read the outcome of the capture from the funds."""
    funds = payment.funds
    if funds.captured:
        is_whole = funds.captured >= payment.amount.amount_minor
        return FlowEvent.CAPTURE_SUCCEEDED if is_whole else FlowEvent.CAPTURE_FELL_SHORT
    if funds.has(FactKind.CAPTURE_REFUSED, FactKind.CAPTURE_FAILED):
        return FlowEvent.CAPTURE_REFUSED
    return hold_evidence(payment)


def no_evidence(_payment: Payment) -> FlowEvent | None:
    """The party answers at once; no webhook tells of it."""
    return None


def pending_authorisation(
    payment: Payment, answer: Mapping[str, object], at: datetime
) -> Fact | None:
    """The PSP's answer names the payment: a webhook will say how it ended."""
    reference = answer.get("psp_reference")
    if not isinstance(reference, str):
        return None
    return Fact(
        kind=FactKind.PENDING,
        reference=reference,
        amount_minor=payment.amount.amount_minor,
        occurred_at=at,
    )


def may_be_authorised(payment: Payment, answer: Mapping[str, object]) -> bool:
    """The PSP answered that it authorised, and no webhook has said how that ended."""
    reference = str(answer.get("psp_reference"))
    told = payment.funds.tells_of(reference, FactKind.AUTHORISED, FactKind.REFUSED)
    return answer.get("result") != "Refused" and not told


def _unresolved_authorisation(record: StepRecord) -> FlowEvent:
    """No webhook came. If the PSP was never asked, or answered with a refusal, nothing is held."""
    if not record.has_left:
        return FlowEvent.AUTHORISATION_REJECTED
    if record.response.get("result") == "Refused":
        return FlowEvent.AUTHORISATION_REFUSED
    return FlowEvent.AUTHORISATION_UNRESOLVED


def _shopper(payment: Payment) -> dict[str, object]:
    return {
        "payment_id": str(payment.payment_id),
        "merchant_reference": payment.merchant_reference,
        **_amount(payment),
        "shopper": {"email": payment.details["shopper"]["email"]},
    }


def _booking(payment: Payment) -> dict[str, object]:
    return {
        "payment_id": str(payment.payment_id),
        "booking_reference": payment.details["booking"]["reference"],
    }


def _amount(payment: Payment) -> dict[str, object]:
    return {
        "amount_minor": payment.amount.amount_minor,
        "currency": payment.amount.currency,
    }


def _may_be_booked(record: StepRecord | None) -> bool:
    """A "no" may answer a repetition of a call whose answer was lost: "that exists already".

    A cancellation too many is harmless; a booking that stands unpaid is not.
    """
    return record is not None and record.has_left and record.status is not StepStatus.REJECTED


def booking_saga(
    *, decision_window_seconds: int, undo_retry: RetryPolicy, call_seconds_max: int
) -> Definitions:
    """Return the flow as data, in every version that may still be running.

    Args:
        decision_window_seconds: How long the shopper still wants the payment: the time that the
            authorisation may take before it is undone.
        undo_retry: The schedule of undos that fail; afterwards a person is asked.
        call_seconds_max: See ``Saga``.
    """
    by_money_back = undo_by_money_back(undo_retry)
    fraud_check = Step(
        name="fraud_check",
        request=check_fraud,
        decided_by=DecidedBy.RESPONSE,
        evidence=no_evidence,
        retry=RetryPolicy((0.5, 1, 2, 5)),
        deadline_seconds=300,
        on_refused=FlowEvent.FRAUD_CHECK_REFUSED,
        on_rejected=FlowEvent.FRAUD_CHECK_FAILED,
        on_unresolved=lambda _: FlowEvent.FRAUD_CHECK_FAILED,
    )
    fraud_rules = Step(
        name="fraud_rules",
        request=check_fraud_rules,
        decided_by=DecidedBy.RESPONSE,
        evidence=no_evidence,
        retry=RetryPolicy((0.5, 1, 2, 5)),
        deadline_seconds=300,
        on_refused=FlowEvent.FRAUD_CHECK_REFUSED,
        on_rejected=FlowEvent.FRAUD_CHECK_FAILED,
        on_unresolved=lambda _: FlowEvent.FRAUD_CHECK_FAILED,
    )
    preauth = Step(
        name="preauth",
        request=authorise,
        decided_by=DecidedBy.WEBHOOK,
        evidence=authorisation_evidence,
        learns=pending_authorisation,
        retry=RetryPolicy((0.5, 1, 2, 5, 15, 60), goes_on=True),
        deadline_seconds=decision_window_seconds,
        on_refused=FlowEvent.AUTHORISATION_REFUSED,
        on_rejected=FlowEvent.AUTHORISATION_REJECTED,
        on_unresolved=_unresolved_authorisation,
        leaves=may_be_authorised,
        undo=by_money_back(
            is_needed=lambda payment, record: (
                (record is not None and record.has_left)
                or payment.funds.held > 0
                or payment.funds.kept > 0
            ),
            after=frozenset({"capture"}),
        ),
    )
    booking_confirmation = Step(
        name="booking_confirmation",
        request=confirm_booking,
        decided_by=DecidedBy.RESPONSE,
        evidence=hold_evidence,
        retry=RetryPolicy((0.5, 1, 2)),
        deadline_seconds=600,
        on_refused=FlowEvent.BOOKING_REFUSED,
        on_rejected=FlowEvent.BOOKING_REFUSED,
        on_unresolved=lambda _: FlowEvent.BOOKING_UNRESOLVED,
        undo=Undo(
            request=cancel_booking,
            decided_by=DecidedBy.RESPONSE,
            is_needed=lambda _, record: _may_be_booked(record),
            is_done=lambda _: False,
            is_refused=lambda *_: False,
            retry=undo_retry,
        ),
    )
    capture_step = Step(
        name="capture",
        request=capture,
        decided_by=DecidedBy.WEBHOOK,
        evidence=capture_evidence,
        retry=RetryPolicy((0.5, 1, 2, 5, 15, 60, HOUR), goes_on=True),
        ask_again_seconds=HOUR,
        deadline_seconds=26 * HOUR,
        on_refused=FlowEvent.CAPTURE_REFUSED,
        on_rejected=FlowEvent.CAPTURE_REFUSED,
        on_unresolved=lambda _: FlowEvent.CAPTURE_UNRESOLVED,
        leaves=lambda *_: False,  # if it works after all, its webhook tells
        undo=by_money_back(
            is_needed=lambda payment, record: (
                payment.funds.kept > 0 or capture_may_have_worked(payment, record)
            ),
        ),
    )
    email = Step(
        name="email",
        request=send_confirmation,
        decided_by=DecidedBy.RESPONSE,
        evidence=no_evidence,
        retry=RetryPolicy((1, 5, 15, 60, 300)),
        deadline_seconds=15 * 60,
        on_refused=FlowEvent.MAIL_FAILED,
        on_rejected=FlowEvent.MAIL_FAILED,
        on_unresolved=lambda _: FlowEvent.MAIL_FAILED,
    )

    def version(number: int, *fraud_steps: Step) -> Saga:
        return Saga(
            name=NAME,
            version=number,
            call_seconds_max=call_seconds_max,
            stages=(
                Stage(
                    state=FlowState.FRAUD_CHECK,
                    steps=fraud_steps,
                    on_done={FlowState.PREAUTH: FlowEvent.FRAUD_CHECK_PASSED},
                ),
                Stage(
                    state=FlowState.PREAUTH,
                    steps=(preauth,),
                    on_done={FlowState.BOOKING_CONFIRMATION: FlowEvent.AUTHORISATION_SUCCEEDED},
                ),
                Stage(
                    state=FlowState.BOOKING_CONFIRMATION,
                    steps=(booking_confirmation,),
                    on_done={
                        FlowState.CAPTURE: FlowEvent.BOOKING_CONFIRMED_FOR_CAPTURE,
                        FlowState.EMAIL: FlowEvent.BOOKING_CONFIRMED,
                    },
                    is_pivot=True,
                ),
                Stage(
                    state=FlowState.CAPTURE,
                    steps=(capture_step,),
                    applies=lambda payment: payment.capture is CaptureMode.AUTOMATIC,
                    on_done={FlowState.EMAIL: FlowEvent.CAPTURE_SUCCEEDED},
                ),
                Stage(
                    state=FlowState.EMAIL,
                    steps=(email,),
                    on_done={FlowState.FIN: FlowEvent.MAIL_SENT},
                ),
            ),
        )

    # Version 1 asked the outside fraud check only.
    return Definitions(version(2, fraud_check, fraud_rules), older=(version(1, fraud_check),))
