"""Uses of keys are counted in memory, and kept while the store is away."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from app.persistence.engine import connect
from tests.support.builders import NOW, numbered_id
from tests.support.clock import FixedClock
from webhooks.key_uses import KeyUses


@pytest.fixture
def nowhere() -> Iterator[Engine]:
    """A store that is away."""
    engine = connect(
        "postgresql://nobody@/nowhere?host=/nonexistent", pool_size=1, application_name=""
    )
    yield engine
    engine.dispose()


def test_a_store_that_is_away_raises_nothing(nowhere: Engine) -> None:
    uses = KeyUses(nowhere, FixedClock(NOW))
    uses.count(numbered_id(1))

    uses.flush_if_due()
    uses.flush()


def test_nothing_counted_asks_nothing(nowhere: Engine, caplog: pytest.LogCaptureFixture) -> None:
    uses = KeyUses(nowhere, FixedClock(NOW))

    uses.flush_if_due()
    uses.flush()

    assert caplog.records == []


def test_a_store_that_is_away_is_asked_once_in_an_interval(
    nowhere: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FixedClock(NOW)
    uses = KeyUses(nowhere, clock)
    for _again in range(3):
        uses.count(numbered_id(1))
        uses.flush_if_due()

    assert len(caplog.records) == 1
