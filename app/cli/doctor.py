"""``doctor``: one line a check; exit 0 if all pass."""

import sys
from collections.abc import Callable, Iterator

import click
from sqlalchemy import text

from app.bootstrap import Container
from app.cli.options import container
from app.errors import CountersignError
from migrations import check as check_schema

#: The database's clock and ours may differ by this much before timers and leases suffer.
CLOCK_SKEW_SECONDS_MAX = 2.0


class CheckFailed(CountersignError):
    """A check failed."""


@click.command()
def doctor() -> None:
    """Check settings, both stores, the schema, the keys and the clock."""
    wired = container()
    click.echo("ok    settings")
    checks: list[tuple[str, Callable[[Container], str]]] = [
        ("postgres", _postgres),
        ("schema", _schema),
        ("clock", _clock),
        ("redis", _redis),
        ("encryption keys", _secrets),
        ("merchant accounts", _accounts),
    ]
    failures = 0
    for name, check in checks:
        try:
            found = check(wired)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            failures += 1
            click.echo(f"FAIL  {name}: {_first_line(error)}")
        else:
            click.echo(f"ok    {name}: {found}")
    sys.exit(1 if failures else 0)


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
