"""Participants that live elsewhere take their commands here, and answer them.

What a participant must know, and what each operation's data holds, stands in docs/participants.md.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.clock import Clock
from app.domain.saga import Offer
from app.errors import CommandNotFound, InvalidFields
from app.http.auth import Authenticate, require_participant
from app.http.schemas import is_storable, read_body
from app.queries.payments import Json, instant
from app.services.answer_command import AnswerCommand, answer_command
from app.services.ports import NewId, UnitOfWorkFactory
from app.services.take_commands import TakeCommands, Taken, take_commands

#: An answer is evidence on a payment's timeline, not an archive.
DATA_BYTES_MAX = 8 * 1024
DEPTH_MAX = 8

#: So many wrong fields are named at once.
PROBLEMS_MAX = 20

#: Every reader of JSON tells integers of this size apart (RFC 8259 section 6).
INTEGER_MAX = 2**53 - 1

#: A reference of the PSP may be a row of digits as well; its webhooks bring the same.
NO_CARD_NUMBER = {"psp": ("data.psp_reference",)}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ClaimBody(_Body):
    """The body of ``POST /commands/claims``."""

    limit: Annotated[int, Field(ge=1, le=100)] = 10
    lease_seconds: Annotated[int, Field(ge=1, le=300)] = 30


class AnswerBody(_Body):
    """The body of ``POST /commands/{message_id}/response``."""

    success: bool
    data: dict[str, JsonValue] = {}


def create_blueprint(
    *,
    authenticate: Authenticate,
    unit_of_work: UnitOfWorkFactory,
    clock: Clock,
    new_id: NewId,
) -> Blueprint:
    """Build the routes of participants.

    Args:
        authenticate: Looks API keys up; a key tells the account and the service.
        unit_of_work: Commands are taken and answered in here.
        clock: The time.
        new_id: Makes the ids of responses.
    """
    blueprint = Blueprint("commands", __name__, url_prefix="/commands")

    @blueprint.post("/claims")
    def claim() -> Response:
        """Take commands: at least once, leased, oldest first.

        What is not answered by ``lease_until`` is handed out again, under the same ``message_id``
        and ``idempotency_key``, until ``offered_until``. An empty list is the ordinary answer: ask
        again in a second.
        """
        caller, service_id = require_participant(authenticate)
        body, _plain = read_body(request, ClaimBody)
        asked = TakeCommands(
            service_id=service_id,
            merchant_account=caller.merchant_account,
            taken_by=caller.key_prefix,
            limit=body.limit,
            lease_seconds=body.lease_seconds,
        )
        taken = take_commands(asked, unit_of_work=unit_of_work, clock=clock)
        return jsonify({"items": [_item(offer, taken) for offer in taken.offers]})

    @blueprint.post("/<message_id>/response")
    def respond(message_id: str) -> Response:
        """Answer a command that was taken, also when its lease is over or it was withdrawn.

        ``success: false`` says that nothing happened and nothing will: the saga goes another way
        without undoing this step. Who is not sure says nothing: the saga undoes the step when its
        time is over. ``applied: false`` says that the saga had gone another way already; what was
        done is undone by a command of its own.
        """
        caller, service_id = require_participant(authenticate)
        body, _plain = read_body(
            request, AnswerBody, no_card_number=NO_CARD_NUMBER.get(service_id, ())
        )
        _check(body.data)
        answer = AnswerCommand(
            message_id=_id(message_id),
            service_id=service_id,
            merchant_account=caller.merchant_account,
            success=body.success,
            data=body.data,
        )
        answered = answer_command(answer, unit_of_work=unit_of_work, clock=clock, new_id=new_id)
        return jsonify(
            {
                "message_id": str(answered.response.message_id),
                "command_id": str(answered.response.command_id),
                "applied": answered.is_applied,
            }
        )

    return blueprint


def _item(offer: Offer, taken: Taken) -> Json:
    command = offer.command
    return {
        "message_id": str(command.message_id),
        "saga_id": str(command.saga_id),
        "service_id": command.service_id,
        "operation": command.operation,
        "idempotency_key": command.idempotency_key,
        "merchant_account": command.merchant_account,
        "data": command.data,
        "timestamp": instant(command.timestamp),
        "lease_until": instant(taken.lease_until),
        "offered_until": instant(offer.until),
    }


def _id(text: str) -> UUID:
    """An id that is no UUID is the id of no command."""
    try:
        return UUID(text)
    except ValueError:
        raise CommandNotFound from None


def _check(data: dict[str, JsonValue]) -> None:
    """Let through what the history can seal and show: the same today and when it is read back.

    Raises:
        InvalidFields: Too large, or holds what is not the same after it was stored.
    """
    problems = dict(islice(_problems(data, "data", 1), PROBLEMS_MAX))
    if not problems and len(json.dumps(data)) > DATA_BYTES_MAX:
        problems = {"data": f"is larger than {DATA_BYTES_MAX} bytes"}
    if problems:
        raise InvalidFields(problems)


def _problems(value: JsonValue, path: str, depth: int) -> Iterator[tuple[str, str]]:
    match value:
        case dict() | list() if depth > DEPTH_MAX:
            yield path, f"is nested more than {DEPTH_MAX} deep"
        case dict():
            for name, inner in value.items():
                if not is_storable(name):
                    yield path, "holds a name with a character that can't be stored"
                else:
                    yield from _problems(inner, f"{path}.{name}", depth + 1)
        case list():
            for position, inner in enumerate(value):
                yield from _problems(inner, f"{path}[{position}]", depth + 1)
        case str() if not is_storable(value):
            yield path, "holds a character that can't be stored"
        case float():
            yield path, "is not a whole number; send it as text"
        case int() if abs(value) > INTEGER_MAX:
            yield path, "is too large a number; send it as text"
        case _:
            pass
