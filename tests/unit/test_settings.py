"""The environment is read once, whole or not at all, and gives no secret away."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.errors import InvalidSettings
from app.settings import Settings, horizon_warnings, read_env_file, variable

REQUIRED: Mapping[str, str] = {
    "DATABASE_URL": "postgresql://user:pgsecret@db/countersign",
    "REDIS_URL": "redis://:redissecret@cache/0",
    "COUNTERSIGN_ENCRYPTION_KEYS": "newestsecret, oldestsecret",
}
SECRETS: Mapping[str, str] = {
    **REQUIRED,
    "COUNTERSIGN_PSP_API_KEY": "pspsecret",
    "COUNTERSIGN_BOOKING_TOKEN": "bookingsecret",
    "COUNTERSIGN_FRAUD_TOKEN": "fraudsecret",
    "COUNTERSIGN_SMTP_PASSWORD": "smtpsecret",
}


def problems_of(environ: Mapping[str, str]) -> str:
    with pytest.raises(InvalidSettings) as refusal:
        Settings.from_env(environ)
    return str(refusal.value)


def test_three_settings_are_enough() -> None:
    settings = Settings.from_env(REQUIRED)

    assert settings.database_url.get_secret_value() == REQUIRED["DATABASE_URL"]
    assert settings.decision_window_seconds == 900


def test_nothing_set_names_every_required_setting_in_one_message() -> None:
    problems = problems_of({})

    assert all(name in problems for name in REQUIRED)


def test_all_problems_stand_in_one_message() -> None:
    problems = problems_of(
        {
            "REDIS_URL": "redis://",
            "COUNTERSIGN_WEB_WAITERS": "many",
            "COUNTERSIGN_SMTP_PORT": "70000",
            "COUNTERSIGN_SMTP_TLS": "perhaps",
            "COUNTERSIGN_PSP_API_KEY_FILE": "/nowhere/at/all",
        }
    )

    assert "REDIS_URL" not in problems
    for name in (
        "DATABASE_URL",
        "COUNTERSIGN_ENCRYPTION_KEYS",
        "COUNTERSIGN_WEB_WAITERS",
        "COUNTERSIGN_SMTP_PORT",
        "COUNTERSIGN_SMTP_TLS",
        "COUNTERSIGN_PSP_API_KEY_FILE",
    ):
        assert name in problems


@pytest.mark.parametrize("name", ["COUNTERSIGN_PSP_TIMEOUT_SECONDS", "COUNTERSIGN_LEASE_SECONDS"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon"])
def test_duration_is_a_whole_number_of_seconds(name: str, value: str) -> None:
    assert name in problems_of({**REQUIRED, name: value})


@pytest.mark.parametrize("name", ["", "REDIS_URL", "COUNTERSIGN_ENCRYPTION_KEYS"])
def test_empty_value_counts_as_absent(name: str) -> None:
    environ = {**REQUIRED, name: ""}

    if not name:
        Settings.from_env(environ)
        return
    assert name in problems_of(environ)


@pytest.mark.parametrize(
    "name",
    [
        "COUNTERSIGN_PSP_TIMEOUT_SECONDS",
        "COUNTERSIGN_BOOKING_TIMEOUT_SECONDS",
        "COUNTERSIGN_FRAUD_TIMEOUT_SECONDS",
        "COUNTERSIGN_SMTP_TIMEOUT_SECONDS",
    ],
)
def test_lease_is_longer_than_twice_any_call(name: str) -> None:
    lease = {**REQUIRED, "COUNTERSIGN_LEASE_SECONDS": "60"}

    problems = problems_of({**lease, name: "30"})

    assert "COUNTERSIGN_LEASE_SECONDS" in problems
    assert Settings.from_env({**lease, name: "29"}).lease_seconds == 60


@pytest.mark.parametrize("name", SECRETS)
def test_secret_never_shows(name: str) -> None:
    settings = Settings.from_env(SECRETS)
    shown = f"{settings!r} {settings} {settings.model_dump()}"

    assert "secret" not in shown.replace("Secret", "")
    assert SECRETS[name] not in shown


def test_problem_does_not_show_the_value() -> None:
    problems = problems_of({**REQUIRED, "COUNTERSIGN_WEB_WAITERS": "s3cret-in-the-wrong-place"})

    assert "s3cret" not in problems


@pytest.mark.parametrize("name", SECRETS)
def test_secret_is_read_from_the_file_that_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRETS[name]}\n")
    environ = {**REQUIRED, f"{name}_FILE": str(file)}
    environ.pop(name, None)

    assert Settings.from_env(environ) == Settings.from_env({**REQUIRED, name: SECRETS[name]})


def test_value_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://file")

    settings = Settings.from_env({**REQUIRED, "REDIS_URL_FILE": str(file)})

    assert settings.redis_url.get_secret_value() == REQUIRED["REDIS_URL"]


def test_file_that_holds_no_text_is_a_problem_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\xfe\xfa")

    problems = problems_of({**REQUIRED, "COUNTERSIGN_PSP_API_KEY_FILE": str(file)})

    assert "COUNTERSIGN_PSP_API_KEY_FILE" in problems


def test_running_instance_is_found_through_its_file(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in REQUIRED.items()]
    (tmp_path / "up.env").write_text("\n".join([*lines, "COUNTERSIGN_WEB_WAITERS=3"]))

    settings = Settings.load({"COUNTERSIGN_HOME": str(tmp_path)})

    assert settings.web_waiters == 3
    assert settings.database_url.get_secret_value() == REQUIRED["DATABASE_URL"]


def test_environment_wins_over_the_file_of_the_running_instance(tmp_path: Path) -> None:
    (tmp_path / "up.env").write_text("COUNTERSIGN_WEB_WAITERS=3\n")
    environ = {**REQUIRED, "COUNTERSIGN_HOME": str(tmp_path), "COUNTERSIGN_WEB_WAITERS": "5"}

    assert Settings.load(environ).web_waiters == 5


def test_absent_file_is_empty_and_a_value_may_hold_an_equals_sign(tmp_path: Path) -> None:
    file = tmp_path / "up.env"

    assert read_env_file(file) == {}
    file.write_text("A=b=c\n\nnonsense\n")
    assert read_env_file(file) == {"A": "b=c"}


def test_master_keys_are_listed_newest_first() -> None:
    assert Settings.from_env(REQUIRED).master_keys == ["newestsecret", "oldestsecret"]


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_has_a_name_and_a_description(field: str) -> None:
    name = variable(field)

    assert name in {"DATABASE_URL", "REDIS_URL"} or name.startswith("COUNTERSIGN_")
    assert Settings.model_fields[field].description


def warnings_of(**days: str) -> list[str]:
    return horizon_warnings(Settings.from_env({**REQUIRED, **days}))


def test_default_horizons_are_safe() -> None:
    assert warnings_of() == []


@pytest.mark.parametrize(
    ("name", "short", "safe"),
    [("COUNTERSIGN_INBOX_DAYS", "34", "35"), ("COUNTERSIGN_SEEN_DAYS", "29", "30")],
)
def test_horizon_shorter_than_the_psp_retries_is_allowed_and_warned_about(
    name: str, short: str, safe: str
) -> None:
    [warning] = warnings_of(**{name: short})

    assert name in warning
    assert "30 days" in warning
    assert warnings_of(**{name: safe}) == []


@pytest.mark.parametrize(
    "name",
    [
        "COUNTERSIGN_INBOX_DAYS",
        "COUNTERSIGN_SEEN_DAYS",
        "COUNTERSIGN_REFUSALS_DAYS",
        "COUNTERSIGN_IDEMPOTENCY_DAYS",
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1000000000"])
def test_horizon_is_a_number_of_days_that_can_be_subtracted(name: str, value: str) -> None:
    assert name in problems_of({**REQUIRED, name: value})


def test_caps_are_read_by_currency() -> None:
    settings = Settings.from_env(
        {**REQUIRED, "COUNTERSIGN_FRAUD_AMOUNT_MAX": "EUR=500000, JPY=80000,"}
    )

    assert settings.fraud_caps == {"EUR": 500_000, "JPY": 80_000}
    assert Settings.from_env(REQUIRED).fraud_caps == {}


@pytest.mark.parametrize(
    "text",
    [
        "EUR",
        "EUR=",
        "EUR=5000.00",
        "EUR=-1",
        "eur=5000",
        "EURO=5000",
        "EUR=5000;USD=5000",
        "EUR=\u0665",
        "EUR=1,EUR=2",
        f"EUR={10**15}",
    ],
)
def test_a_malformed_cap_is_refused_by_the_settings_name(text: str) -> None:
    problems = problems_of({**REQUIRED, "COUNTERSIGN_FRAUD_AMOUNT_MAX": text})

    assert problems.startswith("COUNTERSIGN_FRAUD_AMOUNT_MAX: ")
    assert ";" not in problems


@pytest.mark.parametrize("listen", ["127.0.0.1:9101", "[::1]:9101", "metrics.internal:0", ""])
def test_an_address_for_metrics_is_a_host_and_a_port(listen: str) -> None:
    settings = Settings.from_env({**REQUIRED, "COUNTERSIGN_WORKER_METRICS_LISTEN": listen})

    assert settings.worker_metrics_listen == listen


@pytest.mark.parametrize(
    "listen", ["9101", ":9101", "::1:9101", "host:port", "host:65536", "host:"]
)
def test_what_nobody_can_listen_at_is_refused_by_the_settings_name(listen: str) -> None:
    problems = problems_of({**REQUIRED, "COUNTERSIGN_WORKER_METRICS_LISTEN": listen})

    assert problems.startswith("COUNTERSIGN_WORKER_METRICS_LISTEN: ")


@pytest.mark.parametrize("sender", ["shop@example.com", "Caf\u00e9 <shop@example.com>"])
def test_a_sender_is_an_address_with_or_without_a_name(sender: str) -> None:
    assert Settings.from_env({**REQUIRED, "COUNTERSIGN_MAIL_FROM": sender}).mail_from == sender


@pytest.mark.parametrize(
    "sender", ["shop", "a@b.example, c@d.example", "Shop <shop>", "Shop\nBcc: <a@b.example>"]
)
def test_a_sender_that_is_none_is_refused_by_the_settings_name(sender: str) -> None:
    problems = problems_of({**REQUIRED, "COUNTERSIGN_MAIL_FROM": sender})

    assert problems.startswith("COUNTERSIGN_MAIL_FROM: ")
