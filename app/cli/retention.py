"""``retention``: what cron calls to delete what is older than its horizon."""

import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import click

from app import failpoints
from app.bootstrap import Container
from app.cli.options import Instant, container
from app.cli.output import as_json_option, print_json, print_rows
from app.settings import process_environment
from webhooks.retention import Planned, Purged, Retention

EXIT_LOCKED = 75

Row = Mapping[str, object]


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would go; change nothing.")
@click.option("--as-of", type=Instant(), help="Look from this time; now by default.")
@click.option(
    "--max-seconds",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    help="Stop after this; the next run goes on.",
)
@as_json_option
def retention(as_of: datetime | None, max_seconds: int, *, dry_run: bool, as_json: bool) -> None:
    """Delete what is older than its horizon: webhooks, refusals, stored answers, messages.

    Webhooks with open work stay, and so does every payment's history. It may run beside live
    traffic, and be killed at any instant. A time that is still to come is for --dry-run only. Exit
    codes: 0 done or out of time, 75 another run is at it.
    """
    failpoints.arm_from_text(process_environment().get("COUNTERSIGN_FAILPOINTS", ""))
    wired = container("retention")
    now = wired.clock.now()
    looks_from = as_of or now
    if looks_from > now and not dry_run:
        raise click.UsageError("--as-of is still to come: with --dry-run only")
    job = retention_of(wired)
    if dry_run:
        planned = job.plan(as_of=looks_from)
        _print(looks_from, [_plan_row(one) for one in planned], dry_run=True, as_json=as_json)
        return
    purged = job.run(as_of=looks_from, max_seconds=max_seconds)
    if purged is None:
        click.echo("another retention is running", err=True)
        sys.exit(EXIT_LOCKED)
    _print(looks_from, [_purge_row(one) for one in purged], dry_run=False, as_json=as_json)
    if not all(one.is_complete for one in purged):
        click.echo("the time is up; the next run goes on", err=True)


def retention_of(wired: Container) -> Retention:
    """Return retention with the horizons of the settings."""
    settings = wired.settings
    return Retention(
        wired.engine,
        inbox_days=settings.inbox_days,
        refusals_days=settings.refusals_days,
        idempotency_days=settings.idempotency_days,
        messages_days=settings.messages_days,
    )


def _print(as_of: datetime, rows: Sequence[Row], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"as_of": as_of.isoformat(), "dry_run": dry_run, "tables": rows})
        return
    print_rows(rows, as_json=False, empty="no table has a horizon")


def _plan_row(planned: Planned) -> Row:
    return {
        "table": planned.table,
        "rows": planned.rows,
        "at_least": not planned.is_exact,
        "oldest_kept": _instant(planned.oldest_kept),
    }


def _purge_row(purged: Purged) -> Row:
    return {
        "table": purged.table,
        "rows": purged.rows,
        "complete": purged.is_complete,
        "oldest_kept": _instant(purged.oldest_kept),
        "batches": purged.batches,
        "seconds": round(purged.seconds, 3),
    }


def _instant(at: date | None) -> str | None:
    return at.isoformat() if at is not None else None
