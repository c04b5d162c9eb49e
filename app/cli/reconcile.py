"""``reconcile``: what cron and operators call."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

import click
from sqlalchemy import Engine, text

from app.bootstrap import Container, new_id
from app.cli.options import Instant, account_option, container
from app.cli.output import as_json_option, print_json, print_rows
from app.errors import CountersignError
from app.queries.ages import age_seconds, as_age
from app.queries.breaks import open_breaks
from app.queries.payments import instant
from reconciliation.sweep import RULES, Finding, Orphan, Sweep
from reconciliation.sweep.sweep import LIMIT
from webhooks import inbox, meanings
from webhooks.drain import read

EXIT_OPEN_BREAKS = 3
EXIT_UNREACHABLE = 6
EXIT_LOCKED = 75

#: Names sweeps among all advisory locks of the database.
SWEEP_LOCK = 6_021_024

#: Between these years every wait can be added to a time, and taken off it.
YEARS = range(1970, 9000)

#: A shell writes the time without fractions, and a moment before we read it.
PAST_MAX = timedelta(minutes=1)

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
    help="Whether to tell on stderr what was found, by action.",
)


@click.group()
def reconcile() -> None:
    """Find what is stuck, and what does not agree."""


@reconcile.command()
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@click.option(
    "--as-of",
    type=Instant(),
    help="Look from this time; now by default. From the past only with --dry-run.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    show_default=True,
    help="Findings of one kind at the most, oldest first; the next sweep finds the rest.",
)
@click.option(
    "--resume", is_flag=True, help="Go on after a kill. A sweep always does: it keeps no place."
)
@account_option
@fail_on_option
@progress_option
@as_json_option
def sweep(
    as_of: datetime | None,
    limit: int,
    merchant_account: str | None,
    fail_on: str,
    progress: str,
    *,
    dry_run: bool,
    resume: bool,  # noqa: ARG001  # see its help
    as_json: bool,
) -> None:
    """Find what is stuck, by the rules S1 to S10 (see `reconcile rules`), and move it on.

    Payments are advanced, asked about again, compensated or handed to a person, by the saga's own
    rules; stored webhooks are applied; what can't be asked for is told. A real run with a later
    --as-of gives up what would be given up by then: look with --dry-run first. Exit codes: 0 clean,
    3 there are open breaks, 6 an outside service was away, 75 another sweep is running.
    """
    if as_of and as_of.year not in YEARS:
        raise click.BadParameter("lies beyond all reason", param_hint="--as-of")
    wired = container("sweep")
    now = wired.clock.now()
    if as_of and not dry_run and as_of < now - PAST_MAX:
        raise click.BadParameter(
            "lies in the past: what is decided then may be wrong by now (--dry-run may look)",
            param_hint="--as-of",
        )
    looks_from = as_of or now
    job = sweep_of(wired)
    away = 0
    if dry_run:
        findings = job.plan(as_of=looks_from, merchant_account=merchant_account, limit=limit)
    else:
        looks_from = max(looks_from, now)
        with _one_at_a_time(wired.engine):
            findings = job.plan(as_of=looks_from, merchant_account=merchant_account, limit=limit)
            away = job.carry_out(findings, as_of=looks_from)
    with wired.engine.connect() as connection:
        breaks_ = open_breaks(connection, merchant_account=merchant_account)
    if as_json:
        print_json(
            {
                "as_of": looks_from.isoformat(),
                "dry_run": dry_run,
                "findings": [finding.as_json(looks_from) for finding in findings],
                "open_breaks": len(breaks_),
                "outside_away": away,
            }
        )
    else:
        rows = [_row(finding, looks_from) for finding in findings]
        print_rows(rows, as_json=False, empty="nothing is stuck")
    if progress == "auto" and not as_json:
        unreached = f"; {away} met a service that is away" if away else ""
        click.echo(f"{_counted(findings)}{unreached}; {len(breaks_)} open breaks", err=True)
    if away:
        sys.exit(EXIT_UNREACHABLE)
    if breaks_ and fail_on != "none":
        sys.exit(EXIT_OPEN_BREAKS)


@reconcile.command()
@as_json_option
def rules(*, as_json: bool) -> None:
    """List the rules of the sweep: what each finds, when, what is done, when it gives up."""
    rows = [
        {
            "rule": name,
            "finds": rule.finds,
            "first": rule.first,
            "repeats": rule.repeats,
            "does": rule.does,
            "gives_up": rule.gives_up,
        }
        for name, rule in RULES.items()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row.pop('rule')}  {row.pop('finds')}")
        for what, words in row.items():
            click.echo(f"      {what.replace('_', ' ')}: {words}")


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


def sweep_of(wired: Container) -> Sweep:
    """Wire a sweep over a process's objects."""
    return Sweep(
        definitions=wired.definitions,
        batch=wired.batch,
        runner=wired.runner,
        webhooks=_Inbox(wired),
        clock=wired.clock,
        new_id=new_id,
        orphan_grace=timedelta(seconds=wired.settings.orphan_grace_seconds),
    )


class _Inbox:
    """The inbox, as a sweep uses it: see ``StoredWebhooks``."""

    def __init__(self, wired: Container) -> None:
        self._drain = wired.drain
        self._engine = wired.engine

    def apply(self, guids: Sequence[UUID]) -> None:
        self._drain.run_these(guids)

    def orphan(self, guid: UUID) -> Orphan:
        """Read a webhook as the drain does; what can't be read tells nothing."""
        with self._engine.connect() as connection:
            work = inbox.look(connection, guid)
        try:
            reading = read(work)
        except CountersignError:
            return Orphan(amount=None, can_be_kept=False)
        amount = reading.notification.amount
        reference = meanings.stub_reference(reading.notification, reading.about)
        return Orphan(amount=amount, can_be_kept=reference is not None and amount is not None)


def _row(finding: Finding, as_of: datetime) -> Mapping[str, object]:
    return {
        "rule": finding.rule,
        "payment": finding.subject,
        "state": finding.state,
        "age": as_age(age_seconds(finding.since, as_of)),
        "action": finding.action.value,
        "why": finding.why,
        "next look": instant(finding.next_look) if finding.next_look else None,
    }


def _counted(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.action.value for finding in findings)
    by_action = ", ".join(f"{count} {action}" for action, count in sorted(counts.items()))
    return f"{len(findings)} found" + (f": {by_action}" if by_action else "")
