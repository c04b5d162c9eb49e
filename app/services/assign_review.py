"""Use case: put a payment that waits for a person on another desk."""

from uuid import UUID

from app.clock import Clock
from app.domain.operators import Grounds, OperatorAction, check_name
from app.domain.payment import Change, EventKind
from app.errors import ReviewNotFound
from app.services.ports import UnitOfWorkFactory

ACTION = "assign"


def assign_review(
    payment_id: UUID,
    *,
    to: str,
    grounds: Grounds,
    unit_of_work: UnitOfWorkFactory,
    clock: Clock,
) -> None:
    """Give a payment's open review to somebody; one transaction, with its audit line.

    Raises:
        InvalidFields: ``to`` is no name.
        PaymentNotFound: No such payment.
        ReviewNotFound: It waits for nobody.
    """
    check_name("to", to)
    now = clock.now()
    with unit_of_work() as uow:
        payment = uow.payments.get_for_update(payment_id)
        review = uow.reviews.get(payment_id)
        if review is None:
            raise ReviewNotFound(str(payment_id))
        uow.reviews.assign(payment_id, to=to)
        change = Change(payment=payment, at=now, cause=grounds.cause)
        change.add(
            EventKind.NOTED,
            {
                "note": "review_assigned",
                "to": to,
                "operator": grounds.operator,
                "reason": grounds.reason,
            },
        )
        uow.payments.save(change)
        uow.operator_actions.add(
            OperatorAction(
                grounds=grounds,
                action=ACTION,
                subject=str(payment_id),
                before={"review": review.as_json()},
                after={"review": review.as_json() | {"owner": to}},
                at=now,
            )
        )
        uow.commit()
