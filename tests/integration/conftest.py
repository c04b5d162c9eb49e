"""The service fixture: everything real but the outside."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.bootstrap import Container
from app.embedded import EmbeddedRedis
from app.settings import Settings
from tests.support.clock import FixedClock
from tests.support.commands import CommandLine
from tests.support.fakes import FakeOutside
from tests.support.service import Service
from tests.support.stores import short_folder


@pytest.fixture
def service(
    container: Container, outside: FakeOutside, clock: FixedClock, client: FlaskClient
) -> Service:
    return Service(container, outside, clock, client)


@pytest.fixture
def restarted(service: Service) -> Iterator[Service]:
    """The same service in a second process."""
    other = service.restarted()
    yield other
    other.container.close()


@pytest.fixture
def countersign(settings: Settings, tmp_path: Path) -> CommandLine:
    """The command line, on the test's own stores."""
    return CommandLine(settings=settings, home=tmp_path)


@pytest.fixture
def redis_process() -> Iterator[EmbeddedRedis]:
    """A Redis that the test may stop."""
    with short_folder() as folder:
        server = EmbeddedRedis(folder)
        try:
            yield server
        finally:
            server.process.send_signal(signal.SIGCONT)
            server.stop()
