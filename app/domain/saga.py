"""A saga's stored progress, as values. What the steps do is data in ``app.sagas``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class SagaStatus(StrEnum):
    """What a saga does next, and who starts it."""

    RUNNING = "running"  #: the runner, when ``due`` has come
    WAITING = "waiting"  #: a webhook; the runner asks again or gives up when ``due`` has come
    RESTING = "resting"  #: nobody: the payment is in a rest state


class Direction(StrEnum):
    """Whether a step is done or undone."""

    ACT = "act"
    UNDO = "undo"


class StepStatus(StrEnum):
    """How far one step came, in one direction."""

    ASKED = "asked"  #: the intent is on disk; whether the call was made, and worked, is not known
    PUT_OFF = "put_off"  #: the latest call never left: it is made again, and counts once
    WAITING = "waiting"  #: the party took the request; its webhook decides
    DONE = "done"
    REFUSED = "refused"  #: the party said no: nothing happened there


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One row of ``saga_steps``: a step in one direction.

    Attributes:
        round: Counts decisions to act; retries of one decision share the round and its key.
        attempts: Calls begun in this round, the first included; one that never left and is made
            again counts once.
        started_at: When this round's first attempt began.
        asked_at: When the latest attempt began.
    """

    step: str
    direction: Direction
    status: StepStatus
    round: int
    attempts: int
    response: Mapping[str, object]
    started_at: datetime
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A saga that this worker holds until its lease ends.

    Attributes:
        version: The fence. What this worker writes is written only while the row still has it.
    """

    saga_id: UUID
    payment_id: UUID
    version: int
