"""``doctor``: one line a check: ok, warn or FAIL; exit 0 if none fails."""

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import StrEnum

import click
from sqlalchemy import text

from app.bootstrap import Container
from app.cli.options import container
from app.cli.output import as_json_option, print_json
from app.cli.retention import retention_of
from app.errors import CountersignError
from app.settings import PSP_RETRY_DAYS, horizon_warnings
from migrations import check as check_schema

#: The database's clock and ours may differ by this much before timers and leases suffer.
CLOCK_SKEW_SECONDS_MAX = 2.0

#: Rows that should have gone so long ago mean that retention does not run, or can't keep up.
RETENTION_LATE = timedelta(days=7)

#: Rows of a table that are looked at for those.
RETENTION_LOOKS = 10_000


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


class CheckFailed(CountersignError):
    """A check failed."""


class CheckWarned(CountersignError):
    """The service works, and something should be seen to."""


@click.command()
@as_json_option
def doctor(*, as_json: bool) -> None:
    """Check settings, stores, schema, clock, horizons, retention and keys. Exit 0 if none fails."""
    rows = list(_examine())
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{row['level']:4}  {row['check']}: {row['found']}")
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


def _examine() -> Iterator[dict[str, object]]:
    try:
        wired = container()
    except CountersignError as error:
        yield _row("settings", Level.FAIL, _first_line(error))
        return
    yield _row("settings", Level.OK, "complete")
    for name, check in _CHECKS:
        try:
            yield _row(name, Level.OK, check(wired))
        except CheckWarned as warning:
            yield _row(name, Level.WARN, _first_line(warning))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            yield _row(name, Level.FAIL, _first_line(error))


def _row(check: str, level: Level, found: str) -> dict[str, object]:
    """Return one line; ``ok`` says that nothing failed, so that a warning is ok."""
    return {"check": check, "level": level.value, "ok": level is not Level.FAIL, "found": found}


def _postgres(wired: Container) -> str:
    with wired.engine.connect() as connection:
        return str(connection.execute(text("SHOW server_version")).scalar_one())


def _schema(wired: Container) -> str:
    check_schema(wired.settings.database_url.get_secret_value())
    return "as this release expects it"


def _clock(wired: Container) -> str:
    with wired.engine.connect() as connection:
        theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    skew = abs((wired.clock.now() - theirs).total_seconds())
    if skew > CLOCK_SKEW_SECONDS_MAX:
        raise CheckFailed(f"{skew:.1f} s apart from the database's")
    return "agrees with the database's"


def _redis(wired: Container) -> str:
    wired.seen.ping()
    return "answers"


def _horizons(wired: Container) -> str:
    """How long a webhook is known again: longer than the PSP retries."""
    settings = wired.settings
    if warnings := horizon_warnings(settings):
        raise CheckWarned("; ".join(warnings))
    return (
        f"Redis {settings.seen_days} days, Postgres {settings.inbox_days};"
        f" the PSP retries for {PSP_RETRY_DAYS}"
    )


def _retention(wired: Container) -> str:
    """Tell whether what should have gone days ago is gone."""
    planned = retention_of(wired).plan(
        as_of=wired.clock.now() - RETENTION_LATE, rows_max=RETENTION_LOOKS
    )
    late = [one.table for one in planned if one.rows]
    if late:
        raise CheckWarned(
            f"rows of {', '.join(late)} should have gone {RETENTION_LATE.days} days ago:"
            " does `countersign retention` run every night?"
        )
    return "nothing is late to go"


def _secrets(wired: Container) -> str:
    """Open every stored secret: a master key that was lost shows here, not at a webhook."""
    count = sum(len(wired.accounts.live_keys(name)) for name in wired.accounts.names())
    return f"open all {count} live HMAC keys"


def _rotation(wired: Container) -> str:
    """Tell whether the older master keys may be taken out of the settings."""
    count = wired.accounts.secrets_under_old_keys()
    if count:
        raise CheckWarned(
            f"{count} secrets need an older one: run `countersign merchant reencrypt`"
        )
    return "the newest opens every secret"


def _accounts(wired: Container) -> str:
    without = [name for name in wired.accounts.names() if not wired.accounts.live_keys(name)]
    if without:
        raise CheckFailed(f"no live HMAC key, so webhooks are refused: {', '.join(without)}")
    return f"{len(wired.accounts.names())}, each with a live HMAC key"


def _first_line(error: Exception) -> str:
    lines: Iterator[str] = (line for line in str(error).splitlines() if line)
    return next(lines, type(error).__name__)


def _participants(wired: Container) -> str:
    """Commands that are offered to participants elsewhere, of services that are here by now."""
    elsewhere = wired.settings.services_elsewhere
    with wired.engine.connect() as connection:
        offered = connection.execute(_OFFERED, {"now": wired.clock.now()}).all()
    forgotten = [
        f"{row.service_id} {row.waiting}" for row in offered if row.service_id not in elsewhere
    ]
    if forgotten:
        counts = ", ".join(forgotten)
        raise CheckWarned(
            f"commands wait for a participant elsewhere, but the service is ours: {counts};"
            " see docs/participants.md, Taking a service back"
        )
    return f"{', '.join(sorted(elsewhere))} elsewhere" if elsewhere else "none elsewhere"


_OFFERED = text(
    "SELECT service_id, count(*) AS waiting FROM commands WHERE offered_until > :now"
    " GROUP BY service_id ORDER BY service_id"
)

_CHECKS: tuple[tuple[str, Callable[[Container], str]], ...] = (
    ("postgres", _postgres),
    ("schema", _schema),
    ("clock", _clock),
    ("redis", _redis),
    ("horizons", _horizons),
    ("retention", _retention),
    ("encryption keys", _secrets),
    ("master key", _rotation),
    ("merchant accounts", _accounts),
    ("participants", _participants),
)
