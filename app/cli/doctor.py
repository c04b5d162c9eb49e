"""``doctor``: one line a check; exit 0 if all pass."""

import sys
from collections.abc import Callable, Iterator

import click
from sqlalchemy import text

from app.bootstrap import Container
from app.cli.options import container
from app.cli.output import as_json_option, print_json
from app.errors import CountersignError
from app.persistence.seen import REMEMBER_SECONDS
from migrations import check as check_schema

#: The database's clock and ours may differ by this much before timers and leases suffer.
CLOCK_SKEW_SECONDS_MAX = 2.0


class CheckFailed(CountersignError):
    """A check failed."""


#: The PSP retries a webhook for this long (psp-webhooks.md section 4).
PSP_RETRY_SECONDS = 30 * 24 * 3600


@click.command()
@as_json_option
def doctor(*, as_json: bool) -> None:
    """Check settings, both stores, the schema, the clock, horizons and keys. Exit 0 if all pass."""
    rows = list(_examine())
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['check']}: {row['found']}")
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


def _examine() -> Iterator[dict[str, object]]:
    try:
        wired = container()
    except CountersignError as error:
        yield {"check": "settings", "ok": False, "found": _first_line(error)}
        return
    yield {"check": "settings", "ok": True, "found": "complete"}
    for name, check in _CHECKS:
        try:
            yield {"check": name, "ok": True, "found": check(wired)}
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            yield {"check": name, "ok": False, "found": _first_line(error)}


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


def _horizons(_wired: Container) -> str:
    """How long a webhook is known again: longer than the PSP retries."""
    if REMEMBER_SECONDS < PSP_RETRY_SECONDS:
        raise CheckFailed("Redis forgets webhooks before the PSP stops retrying them")
    return f"Redis {REMEMBER_SECONDS // 86400} days, Postgres for ever; the PSP retries for 30 days"


def _secrets(wired: Container) -> str:
    """Open every stored secret: a master key that was lost shows here, not at a webhook."""
    count = sum(len(wired.accounts.live_keys(name)) for name in wired.accounts.names())
    return f"open all {count} live HMAC keys"


def _accounts(wired: Container) -> str:
    without = [name for name in wired.accounts.names() if not wired.accounts.live_keys(name)]
    if without:
        raise CheckFailed(f"no live HMAC key, so webhooks are refused: {', '.join(without)}")
    return f"{len(wired.accounts.names())}, each with a live HMAC key"


def _first_line(error: Exception) -> str:
    lines: Iterator[str] = (line for line in str(error).splitlines() if line)
    return next(lines, type(error).__name__)


_CHECKS: tuple[tuple[str, Callable[[Container], str]], ...] = (
    ("postgres", _postgres),
    ("schema", _schema),
    ("clock", _clock),
    ("redis", _redis),
    ("horizons", _horizons),
    ("encryption keys", _secrets),
    ("merchant accounts", _accounts),
)
