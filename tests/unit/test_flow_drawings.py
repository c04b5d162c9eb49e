"""The drawings of the flow hold the whole table: nothing of it is drawn by hand."""

import re
from collections.abc import Callable

import pytest

from app.domain.flow import MOVES, REST_STATES, FlowEvent, FlowState, draw_dot, draw_mermaid

ROWS = [(state, event, after) for (state, event), after in MOVES.items()]

_MERMAID_EDGE = re.compile(r"^    (\w+) --> (\w+): (.+)$", re.MULTILINE)
_DOT_EDGE = re.compile(r'^    (\w+) -> (\w+) \[label="(.+)"\];$', re.MULTILINE)


def labels(edges: list[tuple[str, str, str]], state: str, after: str) -> list[str]:
    return [
        label
        for one, other, text in edges
        for label in text.split(", ")
        if (one, other) == (state, after)
    ]


@pytest.mark.parametrize(("state", "event", "after"), ROWS)
def test_mermaid_draws_every_move(state: FlowState, event: FlowEvent, after: FlowState) -> None:
    edges = _MERMAID_EDGE.findall(draw_mermaid())

    assert event.replace("_", " ") in labels(edges, state, after)


@pytest.mark.parametrize(("state", "event", "after"), ROWS)
def test_dot_draws_every_move(state: FlowState, event: FlowEvent, after: FlowState) -> None:
    edges = _DOT_EDGE.findall(draw_dot())

    assert event.replace("_", " ") in labels(edges, state, after)


@pytest.mark.parametrize("draw", [draw_mermaid, draw_dot])
@pytest.mark.parametrize("state", FlowState)
def test_both_drawings_name_every_state(state: FlowState, draw: Callable[[], str]) -> None:
    assert re.search(rf"\b{state}\b", draw())


@pytest.mark.parametrize("state", sorted(REST_STATES))
def test_mermaid_ends_in_every_rest_state(state: FlowState) -> None:
    assert f"    {state} --> [*]" in draw_mermaid().splitlines()


@pytest.mark.parametrize("state", FlowState)
def test_dot_rings_the_rest_states_and_no_other(state: FlowState) -> None:
    shape = "doublecircle" if state in REST_STATES else "box"

    assert f"    {state} [shape={shape}];" in draw_dot().splitlines()


def test_drawings_hold_no_move_that_the_table_has_not() -> None:
    drawn = len(_DOT_EDGE.findall(draw_dot()))

    assert drawn == len({(state, after) for state, _event, after in ROWS})
    assert draw_mermaid().startswith("stateDiagram-v2\n")
    assert draw_dot().startswith("digraph flow {")
    assert draw_dot().endswith("}")
