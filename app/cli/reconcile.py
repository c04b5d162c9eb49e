"""``reconcile``: what cron and operators call."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import click
from sqlalchemy import Engine, text

from app.cli.options import Instant, account_option, container
from app.cli.output import as_json_option, print_json, print_rows
from app.queries.breaks import open_breaks
from reconciliation.sweep import Sweep

EXIT_OPEN_BREAKS = 3
EXIT_UNREACHABLE = 6
EXIT_LOCKED = 75

#: Names sweeps among all advisory locks of the database.
SWEEP_LOCK = 6_021_024

fail_on_option = click.option(
    "--fail-on",
    type=click.Choice(["none", "breaks", "unproven"]),
    default="breaks",
    show_default=True,
    help="What makes the exit code other than 0; unproven batches count as breaks do.",
)
progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "never"]),
    default="auto",
    help="Whether to tell on stderr how many were moved on.",
)


@click.group()
def reconcile() -> None:
    """Find what is stuck, and what does not agree."""


@reconcile.command()
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@click.option("--as-of", type=Instant(), help="Look from this time; now by default.")
@click.option(
    "--resume", is_flag=True, help="Go on after a kill. A sweep always does: it keeps no place."
)
@account_option
@fail_on_option
@progress_option
@as_json_option
def sweep(
    as_of: datetime | None,
    merchant_account: str | None,
    fail_on: str,
    progress: str,
    *,
    dry_run: bool,
    resume: bool,  # noqa: ARG001  # see its help
    as_json: bool,
) -> None:
    """Find payments that rest in the middle past their deadline, and move them on.

    Each is advanced, asked about again, compensated or handed to a person, by the saga's own rules.
    A real run with a later --as-of gives up what would be given up by then: look with --dry-run
    first. Exit codes: 0 clean, 3 there are open breaks, 6 an outside service was away, 75 another
    sweep is running.
    """
    wired = container("sweep")
    looks_from = as_of or wired.clock.now()
    job = Sweep(
        definitions=wired.definitions,
        unit_of_work=wired.unit_of_work,
        runner=wired.runner,
        drain_next=wired.drain.run_next,
        clock=wired.clock,
    )
    away = 0
    if dry_run:
        findings = job.plan(as_of=looks_from, merchant_account=merchant_account)
    else:
        with _one_at_a_time(wired.engine):
            findings = job.plan(as_of=looks_from, merchant_account=merchant_account)
            away = job.carry_out(findings, as_of=looks_from)
    with wired.engine.connect() as connection:
        breaks_ = open_breaks(connection, merchant_account=merchant_account)
    rows = [finding.as_json() for finding in findings]
    if as_json:
        print_json(
            {
                "as_of": looks_from.isoformat(),
                "dry_run": dry_run,
                "findings": rows,
                "open_breaks": len(breaks_),
                "outside_away": away,
            }
        )
    else:
        print_rows(rows, as_json=False, empty="nothing is stuck")
    if progress == "auto" and not as_json:
        done = "would be moved on" if dry_run else "moved on"
        unreached = f"; {away} met a service that is away" if away else ""
        click.echo(f"{len(rows)} {done}{unreached}; {len(breaks_)} open breaks", err=True)
    if away:
        sys.exit(EXIT_UNREACHABLE)
    if breaks_ and fail_on != "none":
        sys.exit(EXIT_OPEN_BREAKS)


@reconcile.command()
@account_option
@fail_on_option
@as_json_option
def breaks(merchant_account: str | None, fail_on: str, *, as_json: bool) -> None:
    """List the open breaks, oldest first."""
    with container().engine.connect() as connection:
        found = open_breaks(connection, merchant_account=merchant_account)
    print_rows(found, as_json=as_json, empty="no break is open")
    if found and fail_on != "none":
        sys.exit(EXIT_OPEN_BREAKS)


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    """Hold the sweep's lock; a process that dies loses it with its connection.

    The connection stays outside any transaction, however long the sweep takes.
    """
    lock = {"lock": SWEEP_LOCK}
    with engine.connect() as opened:
        connection = opened.execution_options(isolation_level="AUTOCOMMIT")
        is_ours = connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), lock).scalar_one()
        if not is_ours:
            click.echo("another sweep is running", err=True)
            sys.exit(EXIT_LOCKED)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)
