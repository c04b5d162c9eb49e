"""Use case: a participant elsewhere answers a command that it has taken."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.clock import Clock
from app.domain.payment import Change, EventKind, Payment
from app.domain.saga import HandedOut, Response
from app.errors import CommandAnswered, CommandNotFound, InvalidFields
from app.services.ports import NewId, UnitOfWorkFactory

#: What the steps read from a yes of the PSP: its webhook is found by the reference.
_NEEDED_OF_THE_PSP = ("psp_reference", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCommand:
    """What a participant says.

    Attributes:
        message_id: Of the command.
        success: True if it is done, or taken if a webhook decides; False if nothing happened.
        data: JSON values that the database gives back as they are.
    """

    message_id: UUID
    service_id: str
    merchant_account: str
    success: bool
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The response as it is kept.

    Attributes:
        is_applied: False if it came late: the saga has gone another way, and undoes the step if it
            left anything behind.
    """

    response: Response
    is_applied: bool


def answer_command(
    answer: AnswerCommand, *, unit_of_work: UnitOfWorkFactory, clock: Clock, new_id: NewId
) -> Answered:
    """Keep the answer, and wake the saga that waits for it.

    The first answer stands. The same one again changes nothing, unless the command was offered once
    more since: then it is an answer to that. A late answer is kept on the payment's timeline: who
    looks at the payment must see that something happened there.

    Lock order: payment, saga, command.

    Raises:
        InvalidFields: A yes for the PSP that does not say what the PSP said.
        CommandNotFound: No participant of this service and account has taken such a command.
        CommandAnswered: It was answered otherwise, and no further answer is awaited.
        StoreUnavailable: Nothing is kept.
    """
    _check(answer)
    now = clock.now()
    with unit_of_work() as uow:
        payment_id = uow.transport.payment_of(
            answer.message_id,
            service_id=answer.service_id,
            merchant_account=answer.merchant_account,
        )
        if payment_id is None:
            raise CommandNotFound
        payment = uow.payments.get_for_update(payment_id)
        handed_out = uow.transport.handed_out(answer.message_id)
        if handed_out is None:
            raise CommandNotFound
        if handed_out.response is not None and not handed_out.is_offered:
            if _said(handed_out.response) != _said(answer):
                raise CommandAnswered
            return Answered(response=handed_out.response, is_applied=not handed_out.is_late)
        response = _response(answer, handed_out, now=now, new_id=new_id)
        is_applied = uow.transport.answer(response)
        if not is_applied:
            uow.payments.save(_late(payment, handed_out, response, now=now))
        uow.commit()
    return Answered(response=response, is_applied=is_applied)


def _check(answer: AnswerCommand) -> None:
    if answer.service_id != "psp" or not answer.success:
        return
    given = {name: answer.data.get(name) for name in _NEEDED_OF_THE_PSP}
    problems = {
        f"data.{name}": "is needed, as text: what the PSP answered"
        for name, value in given.items()
        if not (isinstance(value, str) and value)
    }
    if problems:
        raise InvalidFields(problems)


def _said(answer: AnswerCommand | Response) -> tuple[bool, str]:
    """Return what an answer says, in a form that tells ``true`` from 1."""
    return answer.success, json.dumps(answer.data, sort_keys=True)


def _response(
    answer: AnswerCommand, handed_out: HandedOut, *, now: datetime, new_id: NewId
) -> Response:
    return Response(
        message_id=new_id(),
        command_id=answer.message_id,
        saga_id=handed_out.command.saga_id,
        service_id=answer.service_id,
        success=answer.success,
        data=answer.data,
        timestamp=now,
    )


def _late(payment: Payment, handed_out: HandedOut, response: Response, *, now: datetime) -> Change:
    """Note a late answer as the saga notes those that it reads."""
    change = Change(payment=payment, at=now, cause=f"saga:{handed_out.step}")
    about = {
        "step": handed_out.step,
        "direction": handed_out.direction,
        "attempt": 1,
        "status": "late",
        "answer": dict(response.data),
    }
    change.add(EventKind.STEP_ANSWERED, about)
    return change
