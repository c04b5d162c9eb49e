"""Payments brought to every state of the flow, and what operators do to them there."""

from collections.abc import Callable
from types import MappingProxyType
from uuid import UUID

from app.domain.flow import FlowState
from app.domain.operators import Grounds
from app.domain.payment import CaptureMode, Payment
from app.errors import GatewayTimeout, GatewayUnavailable
from app.sagas.recovery import Recovery
from app.services.operate import Operation, Remedy, operate
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service

HOUR = 3600
DAY = 24 * HOUR
OPERATOR = "ada"
REASON = "the PSP was asked by phone"
GROUNDS = Grounds(OPERATOR, REASON)


def do(
    service: Service,
    payment_id: UUID,
    remedy: Remedy,
    to: FlowState | None = None,
    *,
    version: int | None = None,
) -> Payment:
    """Do what an operator says."""
    container = service.container
    return operate(
        Operation(payment_id=payment_id, remedy=remedy, grounds=GROUNDS, to=to, version=version),
        unit_of_work=container.unit_of_work,
        recovery=Recovery(container.definitions),
        clock=service.clock,
    )


def cancellation(*, success: bool = True, reference: str = "MODCANCEL") -> dict[str, object]:
    """The PSP's word on a cancellation that it took."""
    return an_item(
        "CANCELLATION",
        success=success,
        psp_reference=reference,
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:30:00+01:00",
    )


def captured(amount_minor: int = 12500) -> dict[str, object]:
    """The PSP's word on a capture that it took."""
    return an_item(
        "CAPTURE",
        amount_minor=amount_minor,
        psp_reference="MODCAPTURE",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:20:00+01:00",
    )


def refused_undo(service: Service) -> UUID:
    """A payment in manual_review: the PSP refuses to release the hold."""
    payment_id = compensating(service)
    service.receive(cancellation(success=False))
    assert service.payment(payment_id).state == "manual_review"
    return payment_id


def unresolved_capture(service: Service) -> UUID:
    """A payment in manual_review: the PSP took the capture, and never told how it ended."""
    payment_id = capturing(service)
    service.later(26 * HOUR)
    assert service.payment(payment_id).state == "manual_review"
    return payment_id


def starting(service: Service) -> UUID:
    return service.start()


def authorising(service: Service) -> UUID:
    payment_id = service.start()
    service.settle()
    return payment_id


def booking(service: Service) -> UUID:
    """A payment whose booking was asked for, with no answer yet."""
    service.outside.booking.lost_answers = [GatewayTimeout("no answer")]
    payment_id = authorising(service)
    service.receive(an_item())
    return payment_id


def capturing(service: Service) -> UUID:
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    return payment_id


def mailing(service: Service) -> UUID:
    service.outside.mail.failures = [GatewayUnavailable("451")]
    payment_id = authorising(service)
    service.receive(an_item())
    return payment_id


def finished(service: Service) -> UUID:
    payment_id = authorising(service)
    service.receive(an_item())
    return payment_id


def declined(service: Service) -> UUID:
    payment_id = authorising(service)
    service.receive(an_item(success=False))
    return payment_id


def compensating(service: Service) -> UUID:
    service.outside.booking.says_yes = False
    return finished(service)


def compensated(service: Service) -> UUID:
    payment_id = compensating(service)
    service.receive(cancellation())
    return payment_id


def external(service: Service) -> UUID:
    service.deliver(an_item(merchant_reference="THEIRS"))
    service.later(service.container.settings.orphan_grace_seconds)
    [row] = service.rows("SELECT payment_id FROM payments")
    payment_id: UUID = row["payment_id"]
    return payment_id


#: How a payment comes to each state.
BRING = MappingProxyType[FlowState, Callable[[Service], UUID]](
    {
        FlowState.FRAUD_CHECK: starting,
        FlowState.PREAUTH: authorising,
        FlowState.BOOKING_CONFIRMATION: booking,
        FlowState.CAPTURE: capturing,
        FlowState.EMAIL: mailing,
        FlowState.FIN: finished,
        FlowState.DECLINED: declined,
        FlowState.COMPENSATING: compensating,
        FlowState.COMPENSATED: compensated,
        FlowState.MANUAL_REVIEW: refused_undo,
        FlowState.EXTERNAL: external,
    }
)
