"""Processes that the tests of faults share: each test finds them all running."""

from collections.abc import Iterator

import pytest

from tests.support.processes import Fleet, a_fleet


@pytest.fixture(scope="session")
def processes() -> Iterator[Fleet]:
    with a_fleet() as fleet:
        yield fleet


@pytest.fixture
def fleet(processes: Fleet) -> Fleet:
    """Two web processes and a worker; what the test before has killed is started again."""
    processes.start()
    return processes
