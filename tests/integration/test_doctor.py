"""``doctor`` tells what fails from what should be seen to, and only a failure is exit code 1."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.clock import SystemClock
from app.persistence.encryption import new_master_key
from app.server import web_application
from tests.support.builders import an_item
from tests.support.commands import CommandLine, Ran
from tests.support.service import Service


def level_of(ran: Ran, check: str) -> object:
    [row] = [row for row in ran.json if row["check"] == check]
    return row["level"]


@pytest.fixture
def long_ago(service: Service) -> None:
    """A webhook that is older than the horizon by more than a week, by the machine's clock."""
    service.clock.at = SystemClock().now() - timedelta(days=408)
    service.deliver(an_item())
    service.execute("DELETE FROM hmac_key_uses")


def test_every_check_of_a_sound_service_is_ok(countersign: CommandLine, service: Service) -> None:
    service.deliver(an_item())

    ran = countersign("doctor", "--json")

    assert ran.code == 0
    assert {row["level"] for row in ran.json} == {"ok"}
    assert all(row["ok"] for row in ran.json)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", ["COUNTERSIGN_INBOX_DAYS", "COUNTERSIGN_SEEN_DAYS"])
def test_a_short_horizon_is_a_warning_and_no_failure(countersign: CommandLine, name: str) -> None:
    ran = countersign("doctor", **{name: "20"})

    [warned] = [line for line in ran.lines if not line.startswith("ok")]
    assert ran.code == 0
    assert warned.startswith("warn  horizons:")
    assert name in warned


@pytest.mark.usefixtures("long_ago")
def test_a_webhook_that_should_have_gone_a_week_ago_is_a_warning(
    countersign: CommandLine, service: Service
) -> None:
    service.execute("DELETE FROM inbox_work")
    late = countersign("doctor", "--json")
    countersign("retention")

    after_retention = countersign("doctor", "--json")

    assert (late.code, level_of(late, "retention")) == (0, "warn")
    assert level_of(after_retention, "retention") == "ok"


@pytest.mark.usefixtures("long_ago")
def test_an_old_webhook_with_open_work_is_not_retentions_fault(countersign: CommandLine) -> None:
    ran = countersign("doctor", "--json")

    assert level_of(ran, "retention") == "ok"


def test_secrets_that_can_not_be_opened_are_a_failure(
    countersign: CommandLine, service: Service
) -> None:
    service.execute("UPDATE hmac_keys SET secret_encrypted = 'x'")

    ran = countersign("doctor", "--json")

    assert (ran.code, level_of(ran, "encryption keys")) == (1, "FAIL")


def test_secrets_under_an_older_master_key_are_a_warning(
    countersign: CommandLine, service: Service
) -> None:
    older = service.container.settings.encryption_keys.get_secret_value()

    ran = countersign("doctor", "--json", COUNTERSIGN_ENCRYPTION_KEYS=f"{new_master_key()},{older}")

    assert (ran.code, level_of(ran, "master key")) == (0, "warn")
    assert level_of(ran, "encryption keys") == "ok"


@pytest.mark.usefixtures("service")
def test_a_failure_beside_a_warning_is_exit_code_1(countersign: CommandLine) -> None:
    ran = countersign(
        "doctor", "--json", COUNTERSIGN_SEEN_DAYS="1", REDIS_URL="unix:///nonexistent"
    )

    assert ran.code == 1
    assert level_of(ran, "horizons") == "warn"
    assert level_of(ran, "redis") == "FAIL"


@pytest.fixture
def own_logs() -> Iterator[None]:
    """What the test does to the process's logs ends with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("own_logs")
@pytest.mark.parametrize(("days", "said"), [(20, 1), (400, 0)])
def test_a_short_horizon_is_said_when_web_starts(
    service: Service, capsys: pytest.CaptureFixture[str], days: int, said: int
) -> None:
    settings = service.container.settings.model_copy(update={"inbox_days": days})

    web_application(settings)

    assert capsys.readouterr().err.count("COUNTERSIGN_INBOX_DAYS") == said
