"""The inbox's own connection: what is the store's fault, and what is the statement's."""

from collections.abc import Iterator

import psycopg
import pytest

from app.errors import StoreUnavailable
from app.persistence.direct import DirectConnection
from tests.support.outages import postgres_outage


@pytest.fixture
def direct(database_url: str) -> Iterator[DirectConnection]:
    connection = DirectConnection(database_url, application_name="test")
    yield connection
    connection.close()


def test_a_statement_that_postgres_refuses_for_what_it_says_is_not_an_outage(
    direct: DirectConnection,
) -> None:
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        direct.execute("SELECT repeat('x', 2000000000)", {})

    assert direct.execute("SELECT 1", {}) == [(1,)]


def test_a_database_that_takes_no_connections_is_an_outage_until_it_does(
    direct: DirectConnection, database_url: str
) -> None:
    direct.execute("SELECT 1", {})

    with postgres_outage(database_url), pytest.raises(StoreUnavailable):
        direct.execute("SELECT 1", {})

    assert direct.execute("SELECT 1", {}) == [(1,)]
