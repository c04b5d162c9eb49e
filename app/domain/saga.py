"""A saga's stored progress and its messages, as values; what steps do is data in ``app.sagas``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class SagaStatus(StrEnum):
    """What a saga does next, and who starts it."""

    RUNNING = "running"  #: the runner, when ``due`` has come
    WAITING = "waiting"  #: a webhook or a response; the runner goes on by itself when ``due`` comes
    RESTING = "resting"  #: nobody: the payment is in a rest state


class Direction(StrEnum):
    """Whether a step is done or undone."""

    ACT = "act"
    UNDO = "undo"


class StepStatus(StrEnum):
    """How far one step came, in one direction."""

    REGISTERED = "registered"  #: an undo that may be needed: its step is about to be asked
    ASKED = "asked"  #: the intent is on disk; whether the call was made, and worked, is not known
    PUT_OFF = "put_off"  #: the latest call never left: it is made again, and counts once
    SENT = "sent"  #: the command lies in the queue of a participant elsewhere; it answers there
    WAITING = "waiting"  #: the party took the request; its webhook decides
    DONE = "done"
    REFUSED = "refused"  #: the party said no: nothing happened there
    REJECTED = "rejected"  #: the party could do nothing with the request: nothing happened there
    UNRESOLVED = "unresolved"  #: a repetition was rejected: the call before it may have worked


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One row of ``saga_steps``: a step in one direction.

    Attributes:
        round: Counts decisions to act; retries of one decision share the round and its key.
        attempts: Calls begun in this round, the first included; one that never left and is made
            again counts once.
        request: What this round asks for (``Request.subject``).
        started_at: When this round's first attempt began.
        asked_at: When the latest attempt began.
        due: When the step is asked again, if nothing else happens; None while a call is under way,
            and if that is for its waiting time or its deadline to say.
    """

    step: str
    direction: Direction
    status: StepStatus
    round: int
    attempts: int
    request: str | None
    response: Mapping[str, object]
    started_at: datetime
    asked_at: datetime
    due: datetime | None = None

    @property
    def has_left(self) -> bool:
        """False if it is certain that no call of this round ever left."""
        if self.status is StepStatus.PUT_OFF:
            return self.attempts > 1
        return self.status is not StepStatus.REGISTERED

    @property
    def is_open(self) -> bool:
        """True if a call of this round may have taken effect, and nobody has said so."""
        return self.has_left and self.status in _OPEN

    @property
    def is_under_way(self) -> bool:
        """True if the latest call has not come back, as far as is on record."""
        return self.status is StepStatus.ASKED and self.due is None


_OPEN = frozenset(
    {
        StepStatus.ASKED,
        StepStatus.PUT_OFF,
        StepStatus.SENT,
        StepStatus.WAITING,
        StepStatus.UNRESOLVED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A saga that this worker holds until its lease ends.

    Attributes:
        definition_version: The version of the definition that the saga began under, and ends under.
        version: The fence. What this worker writes is written only while the row still has it.
    """

    saga_id: UUID
    payment_id: UUID
    definition_version: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a step asks of a service.

    Attributes:
        service_id: Who is asked: ``psp``, ``booking``, ``fraud``, ``fraud_rules``, ``mail``.
        operation: What for: ``authorise``, ``confirm``.
        data: All that the service needs to know; JSON values, amounts in minor units.
    """

    service_id: str
    operation: str
    data: Mapping[str, object]

    @property
    def subject(self) -> str:
        """What is asked for, in short: two requests with one subject are one request.

        What the evidence calls for may change between two tries of an undo: a cancellation becomes
        a refund, or a larger one. That is another request, and needs another key.
        """
        names = ("psp_reference", "amount_minor")
        about = [str(self.data[name]) for name in names if self.data.get(name) is not None]
        return ":".join([self.operation, *about])


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A message to a participant: do this, once.

    Attributes:
        message_id: The same on every delivery and every retry.
        saga_id: Whose step it is; answers are keyed by it.
        service_id: Who is asked.
        operation: What for.
        idempotency_key: 64 hex digits, the same on every retry. Who carries a command out twice
            under it must act once.
        merchant_account: Whose payment it is about.
        data: All that the participant needs to know; JSON values, amounts in minor units.
        timestamp: When it was decided, aware UTC.
    """

    message_id: UUID
    saga_id: UUID
    service_id: str
    operation: str
    idempotency_key: str
    merchant_account: str
    data: Mapping[str, object]
    timestamp: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a participant makes of a command: yes or no, with what it says about it.

    Attributes:
        success: True if it is done, or taken (a webhook decides then); False if the party says no,
            and nothing happened there.
        data: JSON values; no secrets, no card data.
    """

    success: bool
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A message from a participant, in answer to a command.

    Attributes:
        message_id: Its own.
        command_id: The ``message_id`` of the command that it answers.
        timestamp: When it was received, aware UTC.
    """

    message_id: UUID
    command_id: UUID
    saga_id: UUID
    service_id: str
    success: bool
    data: Mapping[str, object]
    timestamp: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A response of a participant elsewhere, and the decision that it answers."""

    step: str
    direction: Direction
    round: int
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A command that is handed out to a participant elsewhere.

    Attributes:
        until: When the saga goes another way, unless it has the answer by then.
    """

    command: Command
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOut:
    """What became of a command that a participant elsewhere has taken.

    Attributes:
        step: Whose decision the command carries out.
        direction: Which way.
        is_offered: True while an answer is awaited.
        response: The latest answer; None if there is none.
        is_late: True if the latest answer came when none was awaited.
    """

    command: Command
    step: str
    direction: Direction
    is_offered: bool
    response: Response | None
    is_late: bool
