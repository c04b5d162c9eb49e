"""The README keeps its word: it lists every setting, and every promise with a test that exists."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.domain.flow import REST_STATES, FlowState, draw_mermaid
from app.settings import Settings, variable

ROOT = Path(__file__).parents[2]

_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def tables() -> Iterator[list[list[str]]]:
    """Every table of the README, as rows of cells, the heading first."""
    table: list[list[str]] = []
    for line in [*(ROOT / "README.md").read_text().splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif table:
            yield table
            table = []


def rows_under(heading: str) -> list[list[str]]:
    [table] = [table for table in tables() if table[0][0] == heading]
    return table[2:]


def settings_of_the_readme() -> Mapping[str, str]:
    return {row[0].strip("`"): row[1].strip("`") for row in rows_under("variable")}


def default_of(field: str) -> str:
    info = Settings.model_fields[field]
    if info.is_required():
        return "required"
    default = info.default
    return str(default.get_secret_value() if isinstance(default, SecretStr) else default) or "empty"


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_listed_with_its_default(field: str) -> None:
    assert settings_of_the_readme().get(variable(field)) == default_of(field)


def test_every_listed_variable_is_a_setting() -> None:
    known = {variable(field) for field in Settings.model_fields}

    assert settings_of_the_readme().keys() - known == set()


def test_every_promise_names_a_test() -> None:
    unproven = [row[0] for row in rows_under("promise") if not _TEST.search(row[-1])]

    assert unproven == []


def test_every_test_that_is_named_exists() -> None:
    named = _TEST.findall((ROOT / "README.md").read_text())
    missing = [
        f"{path}::{function}"
        for path, function in named
        if not (ROOT / path).is_file() or (function and function not in functions_of(ROOT / path))
    ]

    assert named
    assert missing == []


@pytest.mark.parametrize("state", [state for state in FlowState if state not in REST_STATES])
def test_every_working_state_is_explained(state: FlowState) -> None:
    assert f"`{state}`" in [row[0] for row in rows_under("state")]


def test_readme_draws_the_flow_as_the_code_enforces_it() -> None:
    assert draw_mermaid() in (ROOT / "README.md").read_text()
