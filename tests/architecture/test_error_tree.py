"""The tree that app/errors.py draws is the tree that it defines."""

import inspect
import re
from itertools import pairwise

import pytest

from app import errors
from app.errors import CountersignError
from app.http.problems import STATUS_BY_ERROR

_LINE = re.compile(r"^    (?P<marker>\+ |  - |    \. )?(?P<name>[A-Z]\w+)(?P<about>.*)$")

DRAWN = [found for line in (errors.__doc__ or "").splitlines() if (found := _LINE.match(line))]

DEFINED = {
    name: error
    for name, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, CountersignError)
}


def depth(line: re.Match[str]) -> int:
    return {None: 0, "+ ": 1, "  - ": 2, "    . ": 3}[line["marker"]]


def parents() -> dict[str, str]:
    """Each drawn class with the nearest line above it that stands further left."""
    found: dict[str, str] = {}
    above: list[re.Match[str]] = []
    for line in DRAWN:
        above = [other for other in above if depth(other) < depth(line)]
        if above:
            found[line["name"]] = above[-1]["name"]
        above.append(line)
    return found


def test_tree_names_exactly_the_classes_of_the_module() -> None:
    drawn = [line["name"] for line in DRAWN]

    assert sorted(drawn) == sorted(DEFINED)


@pytest.mark.parametrize(("name", "parent"), parents().items())
def test_each_class_stands_under_its_base(name: str, parent: str) -> None:
    assert DEFINED[name].__bases__ == (DEFINED[parent],)


@pytest.mark.parametrize("line", DRAWN, ids=lambda line: line["name"])
def test_status_in_the_tree_is_the_status_of_the_answer(line: re.Match[str]) -> None:
    status = re.search(r"\b([45]\d\d)\b", line["about"])

    if status is not None:
        error = DEFINED[line["name"]]
        nearest = next(base for base in error.__mro__ if base in STATUS_BY_ERROR)
        assert STATUS_BY_ERROR[nearest] == int(status[1])


@pytest.mark.parametrize("line", DRAWN, ids=lambda line: line["name"])
def test_retryable_is_said_of_the_classes_that_are(line: re.Match[str]) -> None:
    assert ("retryable" in line["about"]) is DEFINED[line["name"]].retryable


def test_classes_are_defined_in_the_order_of_the_tree() -> None:
    lines = [inspect.getsourcelines(DEFINED[line["name"]])[1] for line in DRAWN]

    assert all(earlier < later for earlier, later in pairwise(lines))
