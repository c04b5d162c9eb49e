"""Use case: a person takes a payment out of ``manual_review``, or gives it up."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from app.clock import Clock
from app.domain.flow import FlowEvent, FlowState
from app.domain.operators import Grounds, OperatorAction
from app.domain.payment import Change, Payment
from app.domain.reviews import Review
from app.errors import ActionForbidden, InvalidFields, PaymentChanged
from app.services.ports import UnitOfWork, UnitOfWorkFactory
from app.services.review_ports import Recovery


class Remedy(StrEnum):
    """What a person does about a payment."""

    RESUME = "resume"  #: what stayed without an outcome, or could not be undone, is asked again
    SKIP = "skip"  #: it counts as done, and the flow goes on
    FORCE = "force"  #: the flow ends here
    ABANDON = "abandon"  #: everything is undone


#: Where a payment may be forced to.
FORCED = MappingProxyType(
    {
        FlowState.FIN: FlowEvent.FORCED_FIN,
        FlowState.COMPENSATED: FlowEvent.FORCED_COMPENSATED,
        FlowState.DECLINED: FlowEvent.FORCED_DECLINED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a person wants done, and why.

    Attributes:
        to: Where the payment is forced to; None for every other remedy.
        version: The payment's version that the person looked at; None if they don't say.

    Raises:
        InvalidFields: ``to`` is missing, or out of place.
    """

    payment_id: UUID
    remedy: Remedy
    grounds: Grounds
    to: FlowState | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is half said."""
        if self.remedy is Remedy.FORCE and self.to not in FORCED:
            raise InvalidFields({"to": f"is not one of {', '.join(FORCED)}"})
        if self.remedy is not Remedy.FORCE and self.to is not None:
            raise InvalidFields({"to": "goes with force only"})


def operate(
    operation: Operation, *, unit_of_work: UnitOfWorkFactory, recovery: Recovery, clock: Clock
) -> Payment:
    """Do what a person says, if the table has a row for it; one transaction, with its audit line.

    The payment is locked first, so that webhooks, workers and other people come before or after,
    never in between; a worker that is in the middle of a call loses its claim, and what it brings
    back is evidence. What the table forbids is kept on the timeline, and nothing else changes.

    Args:
        operation: What to do, and why.
        unit_of_work: Opens the transaction.
        recovery: Says what it means for the saga's steps.
        clock: The time of it.

    Raises:
        PaymentNotFound: No such payment.
        PaymentChanged: It is not what the person looked at. Nothing is kept.
        ActionForbidden: The table has no row for it.
    """
    now = clock.now()
    grounds = operation.grounds
    with unit_of_work() as uow:
        before = uow.payments.get_for_update(operation.payment_id)
        if operation.version not in {None, before.version}:
            raise PaymentChanged(operation.version, before.version)
        review = uow.reviews.get(before.payment_id)
        step = review.step if review else None
        event = _event(operation, before)
        why: dict[str, object] = {"operator": grounds.operator, "reason": grounds.reason}
        change = Change(payment=before, at=now, cause=grounds.cause)
        has_moved = change.move(event, **why | ({"step": step} if step else {}))
        uow.payments.save(change)
        if not has_moved:
            uow.commit()
            raise ActionForbidden(operation.remedy, before.state)
        after = change.payment
        _move_saga(event, after, step, why, uow=uow, recovery=recovery, now=now)
        uow.reviews.close(after.payment_id, now=now)
        uow.operator_actions.add(
            OperatorAction(
                grounds=grounds,
                action=operation.remedy,
                subject=str(after.payment_id),
                before=_seen(before, review),
                after=_seen(after, None),
                at=now,
            )
        )
        uow.commit()
    return after


def _event(operation: Operation, payment: Payment) -> FlowEvent:
    """Name what the person does by what the payment waits for."""
    is_capture = payment.reason == FlowEvent.CAPTURE_UNRESOLVED
    match operation.remedy:
        case Remedy.RESUME:
            return FlowEvent.CAPTURE_RESUMED if is_capture else FlowEvent.UNDO_RESUMED
        case Remedy.SKIP:
            return FlowEvent.CAPTURE_SKIPPED if is_capture else FlowEvent.UNDO_SKIPPED
        case Remedy.ABANDON:
            return FlowEvent.ABANDONED
        case Remedy.FORCE:
            assert operation.to is not None  # noqa: S101  # as every operation is made
            return FORCED[operation.to]


def _move_saga(
    event: FlowEvent,
    payment: Payment,
    step: str | None,
    note: dict[str, object],
    *,
    uow: UnitOfWork,
    recovery: Recovery,
    now: datetime,
) -> None:
    """Put the saga where the flow is; its steps begin where the person wants them to."""
    payment_id = payment.payment_id
    version = uow.sagas.definition_version(payment_id)
    records = {(record.step, record.direction): record for record in uow.sagas.steps(payment_id)}
    match event:
        case FlowEvent.CAPTURE_RESUMED:
            changed = recovery.capture_again(version, records, now=now)
        case FlowEvent.UNDO_RESUMED | FlowEvent.ABANDONED:
            changed = recovery.undo_again(version, payment, records, now=now)
        case FlowEvent.UNDO_SKIPPED:
            changed = recovery.undo_skipped(
                version, payment, records, step=step, note=note, now=now
            )
        case _:
            # A capture that is skipped keeps its record: what is known of it does not change.
            changed = ()
    if changed:
        uow.sagas.put_steps(payment_id, changed, now=now)
    uow.sagas.follow(payment, now=now)


def _seen(payment: Payment, review: Review | None) -> dict[str, object]:
    return {
        "state": payment.state.value,
        "funds_status": payment.funds.status.value,
        "held": payment.funds.held,
        "kept": payment.funds.kept,
        "currency": payment.amount.currency,
        "version": payment.version,
        "review": review.as_json() if review else None,
    }
