"""What a saga is, as data: stages in order, each of steps with their patience and their undo.

A stage is a flow state; its steps run side by side, and the flow goes on when all have worked. A
definition is pure: it says what to ask of whom, and what an answer means; who asks is the runner.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from app.domain.facts import Fact
from app.domain.flow import MOVES, FlowEvent, FlowState
from app.domain.payment import Payment
from app.domain.saga import Direction, Request, StepRecord
from app.errors import DefinitionUnknown

Records = Mapping[tuple[str, Direction], StepRecord]

#: Steps that a stage may hold: a worker has so many threads for each saga that it runs.
SIDE_BY_SIDE_MAX = 2


class DecidedBy(Enum):
    """What a step waits for."""

    RESPONSE = "response"  #: the participant's answer is the outcome
    WEBHOOK = "webhook"  #: the answer says that the request was taken; the PSP tells the outcome


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to call again after a call that failed or stayed without answer.

    Attributes:
        delays_seconds: Upper bounds of the waits between calls; each wait is drawn evenly below its
            bound (full jitter), so that callers who failed together do not come back together.
        goes_on: True if the last delay repeats until the step's deadline.
    """

    delays_seconds: tuple[float, ...]
    goes_on: bool = False

    def delay_after(self, attempts: int) -> float | None:
        """Return the bound of the wait after ``attempts`` calls; None after the last call.

        Before the first call there is nothing to wait for.
        """
        if attempts == 0:
            return 0.0
        if attempts <= len(self.delays_seconds):
            return self.delays_seconds[attempts - 1]
        return self.delays_seconds[-1] if self.goes_on else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What undoes a step. It is registered before the step's first call.

    Attributes:
        request: What to ask. Asked at least once; the idempotency key makes that harmless.
        decided_by: What its outcome waits for.
        is_needed: False if the step left nothing behind; the record is None if it never began.
        is_done: True once the evidence shows that nothing is left; checked before every call.
        is_refused: True if the party refused this very request for good: a person must look.
        retry: The schedule of further calls, also when the webhook stays away.
        is_untold: True while an answer has told of something that the evidence says nothing about;
            an undo that is asked anew, perhaps for its sake, is not done before.
        after: Steps whose undo must be done first; others may go on side by side.
        webhook_seconds: How long a webhook is waited for at the least before the next call.
    """

    request: Callable[[Payment, Records], Request]
    decided_by: DecidedBy
    is_needed: Callable[[Payment, StepRecord | None], bool]
    is_done: Callable[[Payment], bool]
    is_refused: Callable[[Payment, StepRecord], bool]
    retry: RetryPolicy
    is_untold: Callable[[Payment], bool] = lambda _: False
    after: frozenset[str] = frozenset()
    webhook_seconds: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One durable step; its name is stored.

    Attributes:
        request: What to ask. Asked at least once; the idempotency key makes that harmless.
        decided_by: What its outcome waits for.
        evidence: The event that the payment's facts already prove, checked before every call and
            after every answer, so that a webhook that came first is not asked for again.
        learns: What an answer, received at a time, tells of the money before the webhook comes.
        retry: When to call again after a failure.
        ask_again_seconds: How long a webhook may stay away before the same request is sent again;
            None to wait for it until the deadline.
        deadline_seconds: Total patience, from the step's first call.
        on_refused: Where the flow goes if the party says no.
        on_rejected: Where it goes if the party can do nothing with the request.
        on_unresolved: Where it goes when patience or calls are used up.
        leaves: Whether an answer that came after the step was undone may leave something behind.
        undo: What undoes the step; None if it leaves nothing behind.
    """

    name: str
    request: Callable[[Payment], Request]
    decided_by: DecidedBy
    evidence: Callable[[Payment], FlowEvent | None]
    retry: RetryPolicy
    deadline_seconds: int
    on_refused: FlowEvent
    on_rejected: FlowEvent
    on_unresolved: Callable[[StepRecord], FlowEvent]
    ask_again_seconds: int | None = None
    learns: Callable[[Payment, Mapping[str, object], datetime], Fact | None] = lambda *_: None
    leaves: Callable[[Payment, Mapping[str, object]], bool] = lambda *_: True
    undo: Undo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The steps of one flow state: independent of each other, asked side by side.

    Attributes:
        state: The flow state.
        steps: All must work for the flow to go on; the first that does not says where it goes.
        on_done: Where it goes on, by the stage that comes next for this payment, or by ``fin``.
        applies: Whether the payment needs this stage at all; it is passed over if not.
        is_pivot: True for the point of no return: something is sold when its steps have worked, so
            that no stage after it may end in ``declined``.
    """

    state: FlowState
    steps: tuple[Step, ...]
    on_done: Mapping[FlowState, FlowEvent]
    applies: Callable[[Payment], bool] = lambda _: True
    is_pivot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga:
    """Stages in order, under one stored name and version.

    A step status or a flow state that older releases don't know needs a new version: they leave
    its instances alone.

    Attributes:
        call_seconds_max: The longest that a call may be under way: a claim's lease.
    """

    name: str
    version: int
    stages: tuple[Stage, ...]
    call_seconds_max: int

    def __post_init__(self) -> None:
        """Refuse what could not run: see the messages."""
        names = [step.name for step in self.steps]
        if len(names) != len(set(names)):
            raise ValueError(f"saga {self.name} repeats a step name: progress would be ambiguous")
        is_past_the_pivot = False
        for stage in self.stages:
            if len(stage.steps) > SIDE_BY_SIDE_MAX:
                raise ValueError(f"{stage.state} has more than {SIDE_BY_SIDE_MAX} steps")
            for after, event in stage.on_done.items():
                if MOVES.get((stage.state, event)) is not after:
                    raise ValueError(f"{event} does not lead from {stage.state} to {after}")
            for event in _ways_out(stage):
                leads_to = MOVES.get((stage.state, event))
                if leads_to is None:
                    raise ValueError(f"{event} leads nowhere from {stage.state}")
                if is_past_the_pivot and leads_to is FlowState.DECLINED:
                    raise ValueError(f"{stage.state} comes after the pivot and may be declined")
            is_past_the_pivot = is_past_the_pivot or stage.is_pivot

    @property
    def steps(self) -> Sequence[Step]:
        """Every step, in the order of the stages."""
        return [step for stage in self.stages for step in stage.steps]

    def stage(self, state: FlowState) -> Stage:
        """Return the stage of a flow state."""
        return next(stage for stage in self.stages if stage.state is state)

    def on_done(self, stage: Stage, payment: Payment) -> FlowEvent:
        """Return the event by which the payment goes on from a stage that has worked."""
        later = self.stages[self.stages.index(stage) + 1 :]
        after = next((one.state for one in later if one.applies(payment)), FlowState.FIN)
        return stage.on_done[after]


@dataclass(frozen=True, slots=True)
class Definitions:
    """Every version of a saga that this release can run. New sagas begin under the newest."""

    newest: Saga
    older: tuple[Saga, ...] = ()

    def __iter__(self) -> Iterator[Saga]:
        """Yield the definitions, newest first."""
        yield self.newest
        yield from self.older

    def version(self, version: int) -> Saga:
        """Return the definition that an instance began under.

        Raises:
            DefinitionUnknown: This release does not know it.
        """
        for saga in self:
            if saga.version == version:
                return saga
        raise DefinitionUnknown(self.name, version)

    @property
    def name(self) -> str:
        """The saga's stored name."""
        return self.newest.name

    @property
    def versions(self) -> list[int]:
        """The versions that this release can run."""
        return [saga.version for saga in self]


def _ways_out(stage: Stage) -> Iterator[FlowEvent]:
    for step in stage.steps:
        yield step.on_refused
        yield step.on_rejected
