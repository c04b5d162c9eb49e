"""The faults of ingestion keep their tests: each is named where it is proven.

A fault is named by its number in the docstring of a test, or of a module of tests. A docstring that
only points to another module names no numbers, so that each number stands for a test.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FAULTS = {
    "F10": "the same event twice, at once, on two web processes",
    "F11": "the same outcome with other unsigned fields",
    "F12": "success after failure, every order of a payment's events",
    "F13": "a webhook before its payment exists",
    "F14": "a webhook that never comes",
    "F15": "success after compensation",
    "F16": "an unknown payment",
    "F17": "a bad signature, an altered byte, a replayed body, a forged second item",
    "F18": "kill -9 after the 200, before processing",
    "F19": "poison stops neither the drain nor a neighbour",
    "F20": "workers down: the intake goes on, then the backlog drains in order",
    "F39": "Postgres restarts in mid-transaction",
    "F40": "the worker's connections are lost",
    "F41": "deadlocks and serialization failures",
    "F42": "the pool is exhausted: a bounded wait, 503, no loss",
    "F43": "retention under load",
    "F54": "FLUSHALL at any instant",
    "F55": "Redis is down, or hangs",
}


def docstrings(path: Path) -> Iterator[str]:
    """Every docstring of a module that holds tests: its own, and those of its tests."""
    tree = ast.parse(path.read_text())
    yield ast.get_docstring(tree) or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield ast.get_docstring(node) or ""


@pytest.fixture(scope="module")
def named() -> set[str]:
    """Every fault that some test names."""
    return {
        fault
        for path in TESTS.rglob("test_*.py")
        for docstring in docstrings(path)
        for fault in re.findall(r"\bF\d+\b", docstring)
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_ingestion_is_named_by_a_test(fault: str, named: set[str]) -> None:
    assert fault in named, (
        f"no test names {fault} ({FAULTS[fault]}): the test that proves it says so in its docstring"
    )
