"""The flow: what *we* do for a payment, as one table of transitions. All else is refused.

The flow is the saga: each working state runs one step (``app.sagas.booking``), and the state's name
is the step's name. What the PSP says about money is the other machine: ``app.domain.funds``.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType

from app.errors import IllegalTransition


class FlowState(StrEnum):
    """Where our own work for the payment stands."""

    FRAUD_CHECK = "fraud_check"
    PREAUTH = "preauth"
    BOOKING_CONFIRMATION = "booking_confirmation"
    CAPTURE = "capture"
    EMAIL = "email"
    FIN = "fin"
    DECLINED = "declined"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    MANUAL_REVIEW = "manual_review"
    EXTERNAL = "external"


class FlowEvent(StrEnum):
    """What happened to our work. Past tense: an event is a fact."""

    FRAUD_CHECK_PASSED = "fraud_check_passed"
    FRAUD_CHECK_REFUSED = "fraud_check_refused"
    FRAUD_CHECK_FAILED = "fraud_check_failed"
    AUTHORISATION_SUCCEEDED = "authorisation_succeeded"
    AUTHORISATION_REFUSED = "authorisation_refused"
    AUTHORISATION_REJECTED = "authorisation_rejected"
    AUTHORISATION_UNRESOLVED = "authorisation_unresolved"
    AUTHORISATION_FELL_SHORT = "authorisation_fell_short"
    MONEY_CAME_LATE = "money_came_late"
    ANSWER_CAME_LATE = "answer_came_late"
    HOLD_RELEASED = "hold_released"
    BOOKING_CONFIRMED = "booking_confirmed"
    BOOKING_CONFIRMED_FOR_CAPTURE = "booking_confirmed_for_capture"
    BOOKING_REFUSED = "booking_refused"
    BOOKING_UNRESOLVED = "booking_unresolved"
    CAPTURE_SUCCEEDED = "capture_succeeded"
    CAPTURE_REFUSED = "capture_refused"
    CAPTURE_FELL_SHORT = "capture_fell_short"
    CAPTURE_UNRESOLVED = "capture_unresolved"
    MAIL_SENT = "mail_sent"
    MAIL_FAILED = "mail_failed"
    UNDO_COMPLETED = "undo_completed"
    UNDO_FAILED = "undo_failed"
    CAPTURE_RESUMED = "capture_resumed"
    CAPTURE_SKIPPED = "capture_skipped"
    UNDO_RESUMED = "undo_resumed"
    UNDO_SKIPPED = "undo_skipped"
    ABANDONED = "abandoned"
    FORCED_FIN = "forced_fin"
    FORCED_COMPENSATED = "forced_compensated"
    FORCED_DECLINED = "forced_declined"


#: States that a payment may stay in. Every other state has a step to run or an answer to wait for.
REST_STATES = frozenset(
    {
        FlowState.FIN,
        FlowState.DECLINED,
        FlowState.COMPENSATED,
        FlowState.MANUAL_REVIEW,
        FlowState.EXTERNAL,
    }
)

_S, _E = FlowState, FlowEvent

#: The rows that move a payment. A "no" is final, a "failed" or "unresolved" is a party that did not
#: say yes or no in time: it is undone when money may be held, never assumed. The rows below the
#: line are a person's (``app.services.operate``): nothing else leaves ``manual_review``. What is
#: sold and told to the shopper is not abandoned any more: it is refunded.
MOVES: Mapping[tuple[FlowState, FlowEvent], FlowState] = MappingProxyType(
    {
        # state now                event                              state next
        (_S.FRAUD_CHECK,          _E.FRAUD_CHECK_PASSED):            _S.PREAUTH,
        (_S.FRAUD_CHECK,          _E.FRAUD_CHECK_REFUSED):           _S.DECLINED,
        (_S.FRAUD_CHECK,          _E.FRAUD_CHECK_FAILED):            _S.DECLINED,
        (_S.PREAUTH,              _E.AUTHORISATION_SUCCEEDED):       _S.BOOKING_CONFIRMATION,
        (_S.PREAUTH,              _E.AUTHORISATION_REFUSED):         _S.DECLINED,
        (_S.PREAUTH,              _E.AUTHORISATION_REJECTED):        _S.DECLINED,
        (_S.PREAUTH,              _E.AUTHORISATION_UNRESOLVED):      _S.COMPENSATING,
        (_S.PREAUTH,              _E.AUTHORISATION_FELL_SHORT):      _S.COMPENSATING,
        (_S.DECLINED,             _E.AUTHORISATION_SUCCEEDED):       _S.BOOKING_CONFIRMATION,
        (_S.DECLINED,             _E.AUTHORISATION_FELL_SHORT):      _S.COMPENSATING,
        (_S.DECLINED,             _E.MONEY_CAME_LATE):               _S.COMPENSATING,
        (_S.COMPENSATED,          _E.MONEY_CAME_LATE):               _S.COMPENSATING,
        (_S.DECLINED,             _E.ANSWER_CAME_LATE):              _S.COMPENSATING,
        (_S.COMPENSATED,          _E.ANSWER_CAME_LATE):              _S.COMPENSATING,
        (_S.BOOKING_CONFIRMATION, _E.BOOKING_CONFIRMED):             _S.EMAIL,
        (_S.BOOKING_CONFIRMATION, _E.BOOKING_CONFIRMED_FOR_CAPTURE): _S.CAPTURE,
        (_S.BOOKING_CONFIRMATION, _E.BOOKING_REFUSED):               _S.COMPENSATING,
        (_S.BOOKING_CONFIRMATION, _E.BOOKING_UNRESOLVED):            _S.COMPENSATING,
        (_S.BOOKING_CONFIRMATION, _E.HOLD_RELEASED):                 _S.COMPENSATING,
        (_S.CAPTURE,              _E.CAPTURE_SUCCEEDED):             _S.EMAIL,
        (_S.CAPTURE,              _E.CAPTURE_FELL_SHORT):            _S.COMPENSATING,
        (_S.CAPTURE,              _E.HOLD_RELEASED):                 _S.COMPENSATING,
        (_S.CAPTURE,              _E.CAPTURE_REFUSED):               _S.COMPENSATING,
        (_S.CAPTURE,              _E.CAPTURE_UNRESOLVED):            _S.MANUAL_REVIEW,
        (_S.EMAIL,                _E.MAIL_SENT):                     _S.FIN,
        (_S.EMAIL,                _E.MAIL_FAILED):                   _S.FIN,
        (_S.COMPENSATING,         _E.UNDO_COMPLETED):                _S.COMPENSATED,
        (_S.COMPENSATING,         _E.UNDO_FAILED):                   _S.MANUAL_REVIEW,
        # ------------------------------------------------------------------------------------
        (_S.FRAUD_CHECK,          _E.ABANDONED):                     _S.COMPENSATING,
        (_S.PREAUTH,              _E.ABANDONED):                     _S.COMPENSATING,
        (_S.BOOKING_CONFIRMATION, _E.ABANDONED):                     _S.COMPENSATING,
        (_S.CAPTURE,              _E.ABANDONED):                     _S.COMPENSATING,
        (_S.MANUAL_REVIEW,        _E.ABANDONED):                     _S.COMPENSATING,
        (_S.MANUAL_REVIEW,        _E.CAPTURE_RESUMED):               _S.CAPTURE,
        (_S.MANUAL_REVIEW,        _E.CAPTURE_SKIPPED):               _S.EMAIL,
        (_S.MANUAL_REVIEW,        _E.UNDO_RESUMED):                  _S.COMPENSATING,
        (_S.MANUAL_REVIEW,        _E.UNDO_SKIPPED):                  _S.COMPENSATING,
        (_S.MANUAL_REVIEW,        _E.FORCED_FIN):                    _S.FIN,
        (_S.MANUAL_REVIEW,        _E.FORCED_COMPENSATED):            _S.COMPENSATED,
        (_S.MANUAL_REVIEW,        _E.FORCED_DECLINED):               _S.DECLINED,
    }
)  # fmt: skip

#: What the PSP may report in a state without moving the flow: it is known already, it came before
#: its turn (the step finds it when its turn comes), or the flow is over and only the funds change.
STAYS: Mapping[FlowEvent, tuple[FlowState, ...]] = MappingProxyType(
    {
        _E.AUTHORISATION_SUCCEEDED: (
            _S.FRAUD_CHECK,
            _S.BOOKING_CONFIRMATION,
            _S.CAPTURE,
            _S.EMAIL,
            _S.FIN,
            _S.COMPENSATING,
            _S.MANUAL_REVIEW,
            _S.EXTERNAL,
        ),
        _E.AUTHORISATION_FELL_SHORT: (_S.FRAUD_CHECK,),
        _E.AUTHORISATION_REFUSED: (
            _S.FRAUD_CHECK,
            _S.DECLINED,
            _S.COMPENSATING,
            _S.COMPENSATED,
            _S.MANUAL_REVIEW,
            _S.EXTERNAL,
        ),
        _E.CAPTURE_SUCCEEDED: (
            _S.PREAUTH,
            _S.BOOKING_CONFIRMATION,
            _S.EMAIL,
            _S.FIN,
            _S.DECLINED,
            _S.COMPENSATING,
            _S.MANUAL_REVIEW,
            _S.EXTERNAL,
        ),
        _E.CAPTURE_REFUSED: (
            _S.PREAUTH,
            _S.BOOKING_CONFIRMATION,
            _S.EMAIL,
            _S.FIN,
            _S.COMPENSATING,
            _S.COMPENSATED,
            _S.MANUAL_REVIEW,
            _S.EXTERNAL,
        ),
    }
)

#: The whole table. Every pair without a row is refused, and the refusal is kept.
TRANSITIONS: Mapping[tuple[FlowState, FlowEvent], FlowState] = MappingProxyType(
    {
        **MOVES,
        **{(state, event): state for event, states in STAYS.items() for state in states},
    }
)


def next_state(state: FlowState, event: FlowEvent) -> FlowState:
    """Return the state after ``event``.

    Raises:
        IllegalTransition: The table has no row for this state and event.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


def draw_mermaid() -> str:
    """Draw the moves as a Mermaid state diagram, from the table."""
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {FlowState.FRAUD_CHECK}",
            *(f"    {a} --> {b}: {label}" for a, b, label in _edges()),
            f"    [*] --> {FlowState.EXTERNAL}: reported by the PSP",
            *(f"    {state} --> [*]" for state in FlowState if state in REST_STATES),
        ]
    )


def draw_dot() -> str:
    """Draw the moves as a Graphviz digraph, from the table."""
    return "\n".join(
        [
            "digraph flow {",
            "    rankdir=LR;",
            *(
                f"    {state} [shape={'doublecircle' if state in REST_STATES else 'box'}];"
                for state in FlowState
            ),
            *(f'    {a} -> {b} [label="{label}"];' for a, b, label in _edges()),
            "}",
        ]
    )


def _edges() -> Iterator[tuple[str, str, str]]:
    labels: dict[tuple[FlowState, FlowState], list[str]] = {}
    for (state, event), after in MOVES.items():
        labels.setdefault((state, after), []).append(event.replace("_", " "))
    for (state, after), events in labels.items():
        yield state, after, ", ".join(events)
