"""What a saga is: named steps in order, each with its patience and with what undoes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.domain.flow import FlowEvent, FlowState
from app.domain.payment import Payment
from app.domain.saga import StepRecord, StepStatus
from app.services.ports import Gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What an act is given: the payment as it stands, and the key that makes repeating it safe."""

    payment: Payment
    idempotency_key: str
    gateways: Gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an act brought back.

    Attributes:
        status: ``WAITING`` if a webhook decides, ``DONE`` or ``REFUSED`` if the answer did.
        event: Where the flow goes; None while waiting, and for an undo.
        evidence: What the party said, for the timeline; JSON values.
        payment_psp_reference: The payment's PSP reference, if the answer told it.
    """

    status: StepStatus
    event: FlowEvent | None
    evidence: Mapping[str, object]
    payment_psp_reference: str | None = None


Act = Callable[[Call], Outcome]


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
    """What undoes a step.

    Attributes:
        act: Asks for it. Runs at least once; the idempotency key makes that harmless.
        is_needed: False if the step left nothing behind; the record is None if it never began.
        is_done: True once the evidence shows that nothing is left; checked before every call.
        is_refused: True if the party refused for good: a person must look.
        retry: The schedule of further calls, also when the webhook stays away.
        webhook_seconds: How long a webhook is waited for at the least before the next call.
    """

    act: Act
    is_needed: Callable[[Payment, StepRecord | None], bool]
    is_done: Callable[[Payment], bool]
    is_refused: Callable[[Payment], bool]
    retry: RetryPolicy
    webhook_seconds: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One durable step; its name is the flow state in which it runs, and is stored.

    Attributes:
        act: Does the work. Runs at least once; the idempotency key makes that harmless.
        evidence: The event that the payment's facts already prove, checked before every call and
            after every answer, so that a webhook that came first is not asked for again.
        retry: When to call again after a failure.
        ask_again_seconds: How long a webhook may stay away before the same request is sent again;
            None to wait for it until the deadline.
        deadline_seconds: Total patience, from the step's first call.
        on_rejected: Where the flow goes if the party refuses the request itself.
        on_deadline: Where it goes when patience or calls are used up.
        undo: What undoes the step; None if it leaves nothing behind.
    """

    name: FlowState
    act: Act
    evidence: Callable[[Payment], FlowEvent | None]
    retry: RetryPolicy
    ask_again_seconds: int | None
    deadline_seconds: int
    on_rejected: FlowEvent
    on_deadline: Callable[[StepRecord], FlowEvent]
    undo: Undo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga:
    """An ordered list of steps under one stored name and version."""

    name: str
    version: int
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        """Refuse two steps with one name: progress would be ambiguous."""
        names = [step.name for step in self.steps]
        if len(names) != len(set(names)):
            raise ValueError(f"saga {self.name} repeats a step name")

    def step(self, name: str) -> Step:
        """Return the step that runs in the flow state ``name``."""
        return next(step for step in self.steps if step.name == name)
