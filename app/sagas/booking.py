"""The booking saga: fraud check, preauth, booking confirmation, (capture), email.

Read ``booking_saga`` first: it is the flow as data. Above it stands what each step asks, what
proves that it is settled, and what undoes it.
"""

from collections.abc import Callable

from app.domain.flow import FlowEvent, FlowState
from app.domain.funds import FactKind
from app.domain.identifiers import request_key
from app.domain.money import Money
from app.domain.payment import CaptureMode, Payment
from app.domain.saga import StepRecord, StepStatus
from app.sagas.definition import Call, Outcome, RetryPolicy, Saga, Step, Undo
from app.services.ports import PspAnswer, Verdict

NAME = "booking"
HOUR = 3600
DAY = 24 * HOUR

#: Failed undos are tried again at once, then after 5 m and 1 h, then daily for five days: from S7
#: in psp-reports.md section 3.3. After that a person is asked.
UNDO_RETRY = RetryPolicy((2, 10, 60, 300, HOUR, DAY, DAY, DAY, DAY, DAY))


def ask_fraud_check(call: Call) -> Outcome:
    """Ask whether the payment may go on."""
    verdict = call.gateways.fraud.check(call.payment, idempotency_key=call.idempotency_key)
    return _at_once(verdict, FlowEvent.FRAUD_CHECK_PASSED, FlowEvent.FRAUD_CHECK_REFUSED)


def ask_authorisation(call: Call) -> Outcome:
    """Ask the PSP to hold the amount. The AUTHORISATION webhook decides, never the answer."""
    answer = call.gateways.psp.authorise(call.payment, idempotency_key=call.idempotency_key)
    return _by_webhook(answer, payment_psp_reference=answer.psp_reference)


def ask_booking(call: Call) -> Outcome:
    """Confirm the booking: the pivot."""
    verdict = call.gateways.booking.confirm(call.payment, idempotency_key=call.idempotency_key)
    is_automatic = call.payment.capture is CaptureMode.AUTOMATIC
    confirmed = (
        FlowEvent.BOOKING_CONFIRMED_FOR_CAPTURE if is_automatic else FlowEvent.BOOKING_CONFIRMED
    )
    return _at_once(verdict, confirmed, FlowEvent.BOOKING_REFUSED)


def ask_capture(call: Call) -> Outcome:
    """Ask the PSP to capture the whole amount. The CAPTURE webhook decides."""
    payment = call.payment
    return _by_webhook(
        call.gateways.psp.capture(payment, payment.amount, idempotency_key=call.idempotency_key)
    )


def send_mail(call: Call) -> Outcome:
    """Send the confirmation mail. A mail never undoes a booking."""
    verdict = call.gateways.mail.send_confirmation(call.payment)
    return _at_once(verdict, FlowEvent.MAIL_SENT, FlowEvent.MAIL_FAILED)


def cancel_booking(call: Call) -> Outcome:
    """Cancel the booking, also one whose confirmation stayed without answer."""
    verdict = call.gateways.booking.cancel(call.payment, idempotency_key=call.idempotency_key)
    status = StepStatus.DONE if verdict.is_yes else StepStatus.REFUSED
    return Outcome(status=status, event=None, evidence=verdict.evidence)


def give_money_back(call: Call) -> Outcome:
    """Refund what was captured, else release the hold. The PSP's webhook decides.

    What is asked for goes into the key: what the evidence calls for may change between two tries,
    and the PSP would answer a refund under a cancel's key with the cancel's answer.
    """
    payment, psp = call.payment, call.gateways.psp
    kept = payment.funds.kept
    if kept:
        money = Money(kept, payment.amount.currency)
        key = request_key(call.idempotency_key, "refund", str(kept))
        return _by_webhook(psp.refund(payment, money, idempotency_key=key))
    key = request_key(call.idempotency_key, "cancel", payment.psp_reference or "")
    return _by_webhook(psp.cancel(payment, idempotency_key=key))


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


def is_money_back(payment: Payment) -> bool:
    """Nothing is held and nothing is kept, and the PSP has said so: silence proves nothing."""
    funds = payment.funds
    has_been_told = funds.has(
        FactKind.AUTHORISED,
        FactKind.CAPTURED,
        FactKind.REFUSED,
        FactKind.CANCELLED,
        FactKind.EXPIRED,
    )
    return has_been_told and funds.held == 0 and funds.kept == 0


def is_money_back_refused(payment: Payment) -> bool:
    """The PSP refuses for good. A void that is refused because we were paid leads to a refund."""
    funds = payment.funds
    return funds.has(FactKind.REFUND_REFUSED) or (
        funds.has(FactKind.CANCEL_REFUSED) and funds.kept == 0
    )


def _money_back(is_needed: Callable[[Payment, StepRecord | None], bool]) -> Undo:
    return Undo(
        act=give_money_back,
        is_needed=is_needed,
        is_done=is_money_back,
        is_refused=is_money_back_refused,
        retry=UNDO_RETRY,
    )


def _unresolved_authorisation(record: StepRecord) -> FlowEvent:
    """No webhook came. If the PSP's answer was a refusal, nothing is held."""
    if record.response.get("result") == "Refused":
        return FlowEvent.AUTHORISATION_REFUSED
    return FlowEvent.AUTHORISATION_UNRESOLVED


def _at_once(verdict: Verdict, yes: FlowEvent, no: FlowEvent) -> Outcome:
    return Outcome(
        status=StepStatus.DONE if verdict.is_yes else StepStatus.REFUSED,
        event=yes if verdict.is_yes else no,
        evidence=verdict.evidence,
    )


def _by_webhook(answer: PspAnswer, *, payment_psp_reference: str | None = None) -> Outcome:
    return Outcome(
        status=StepStatus.WAITING,
        event=None,
        evidence={"psp_reference": answer.psp_reference, "result": answer.result},
        payment_psp_reference=payment_psp_reference,
    )


def booking_saga(*, decision_window_seconds: int) -> Saga:
    """Return the flow as data.

    Args:
        decision_window_seconds: How long the shopper still wants the payment: the time that the
            authorisation may take before it is undone.
    """
    return Saga(
        name=NAME,
        version=1,
        steps=(
            Step(
                name=FlowState.FRAUD_CHECK,
                act=ask_fraud_check,
                evidence=no_evidence,
                retry=RetryPolicy((0.5, 1, 2, 5)),
                ask_again_seconds=None,
                deadline_seconds=300,
                on_rejected=FlowEvent.FRAUD_CHECK_FAILED,
                on_deadline=lambda _: FlowEvent.FRAUD_CHECK_FAILED,
                undo=None,
            ),
            Step(
                name=FlowState.PREAUTH,
                act=ask_authorisation,
                evidence=authorisation_evidence,
                retry=RetryPolicy((0.5, 1, 2, 5, 15, 60), goes_on=True),
                ask_again_seconds=None,
                deadline_seconds=decision_window_seconds,
                on_rejected=FlowEvent.AUTHORISATION_REJECTED,
                on_deadline=_unresolved_authorisation,
                undo=_money_back(
                    is_needed=lambda payment, record: (
                        record is not None or payment.funds.held > 0 or payment.funds.kept > 0
                    )
                ),
            ),
            Step(
                name=FlowState.BOOKING_CONFIRMATION,
                act=ask_booking,
                evidence=hold_evidence,
                retry=RetryPolicy((0.5, 1, 2)),
                ask_again_seconds=None,
                deadline_seconds=600,
                on_rejected=FlowEvent.BOOKING_REFUSED,
                on_deadline=lambda _: FlowEvent.BOOKING_UNRESOLVED,
                undo=Undo(
                    act=cancel_booking,
                    is_needed=lambda _, record: (
                        record is not None and record.status is not StepStatus.REFUSED
                    ),
                    is_done=lambda _: False,
                    is_refused=lambda _: False,
                    retry=UNDO_RETRY,
                ),
            ),
            Step(
                name=FlowState.CAPTURE,
                act=ask_capture,
                evidence=capture_evidence,
                retry=RetryPolicy((0.5, 1, 2, 5, 15, 60, HOUR), goes_on=True),
                ask_again_seconds=HOUR,
                deadline_seconds=26 * HOUR,
                on_rejected=FlowEvent.CAPTURE_REFUSED,
                on_deadline=lambda _: FlowEvent.CAPTURE_UNRESOLVED,
                undo=_money_back(is_needed=lambda payment, _: payment.funds.kept > 0),
            ),
            Step(
                name=FlowState.EMAIL,
                act=send_mail,
                evidence=no_evidence,
                retry=RetryPolicy((1, 5, 15, 60, 300)),
                ask_again_seconds=None,
                deadline_seconds=15 * 60,
                on_rejected=FlowEvent.MAIL_FAILED,
                on_deadline=lambda _: FlowEvent.MAIL_FAILED,
                undo=None,
            ),
        ),
    )
