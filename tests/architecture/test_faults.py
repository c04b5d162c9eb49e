"""The faults that the service must survive keep their tests: each is named where it is proven.

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
    "F8": "a timeout is not a decline",
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
    "F21": "kill -9 before the effect",
    "F22": "kill -9 after the effect, before the commit",
    "F23": "kill -9 after the commit, before the wake-up",
    "F24": "a step outlives its lease",
    "F25": "two workers, one row",
    "F26": "a worker is stopped past its lease, then goes on",
    "F27": "retries exhausted: undo in reverse order",
    "F28": "an undo fails, then works",
    "F29": "an undo fails for good: a person resumes, skips or forces, audited",
    "F30": "undo of a step whose outcome is unknown",
    "F31": "the void reaches the PSP before the authorise did",
    "F32": "the mail fails after the pivot: no refund",
    "F33": "an operator's cancel races the webhook",
    "F34": "a new release meets sagas of the old definition",
    "F35": "double start",
    "F36": "no row is ever without a due time, a lease, a wait or a rest state",
    "F37": "a long backoff does not delay that payment's webhook",
    "F38": "SIGTERM drains",
    "F39": "Postgres restarts in mid-transaction",
    "F40": "the worker's connections are lost",
    "F41": "deadlocks and serialization failures",
    "F42": "the pool is exhausted: a bounded wait, 503, no loss",
    "F43": "retention under load",
    "F54": "FLUSHALL at any instant",
    "F55": "Redis is down, or hangs",
    "F56": "a half-open breaker: exactly one probe",
    "F57": "a peer that drips one byte a second: a total deadline",
    "F58": "retry times retry is capped",
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
def test_every_fault_is_named_by_a_test(fault: str, named: set[str]) -> None:
    assert fault in named, (
        f"no test names {fault} ({FAULTS[fault]}): the test that proves it says so in its docstring"
    )
