"""Fixtures: real stores, a wired service on them, and a clock that the test sets."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app import failpoints
from app.bootstrap import Container
from app.domain.access import Role
from app.factory import create_app
from app.persistence.encryption import new_master_key
from app.settings import Settings
from tests.support import stores
from tests.support.builders import ACCOUNT, HMAC_KEY, NOW
from tests.support.clock import FixedClock
from tests.support.fakes import FakeOutside


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """One Postgres a test process, with the schema built by the migrations."""
    with stores.postgres() as url:
        stores.make_template(url)
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """One Redis a test process."""
    with stores.redis() as url:
        yield url


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """A database of the test's own."""
    with stores.fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty Redis."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings.from_env(
        {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "COUNTERSIGN_ENCRYPTION_KEYS": new_master_key(),
        }
    )


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def outside() -> FakeOutside:
    return FakeOutside()


@pytest.fixture
def container(settings: Settings, clock: FixedClock, outside: FakeOutside) -> Iterator[Container]:
    """The whole service on real stores, with fake outside services and the test's clock."""
    wired = Container(
        settings, role="test", pool_size=16, clock=clock, outside=outside.participants()
    )
    wired.accounts.add(ACCOUNT, [HMAC_KEY])
    yield wired
    wired.close()


@pytest.fixture
def client(container: Container) -> FlaskClient:
    return create_app(container).test_client()


@pytest.fixture
def api_key(container: Container) -> str:
    return container.accounts.create_api_key(ACCOUNT, Role.MERCHANT)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No failpoint outlives its test."""
    yield
    failpoints.disarm_all()
