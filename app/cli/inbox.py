"""``inbox``: what was stored, where it stands, and applying it again."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import click
from sqlalchemy import Connection

from app.cli.options import (
    Instant,
    account_option,
    container,
    grounds_of,
    grounds_options,
)
from app.cli.output import as_json_option, print_json, print_rows
from app.errors import MalformedNotification, NotificationNotFound
from app.persistence.tables import InboxState
from app.queries.ages import as_age
from app.queries.inbox import (
    LOOKED_AT_MAX,
    InboxFilter,
    events_caused,
    find_payment,
    get_webhook,
    list_webhooks,
    looked_back_to,
    oldest_waiting,
)
from app.queries.payments import get_payment, instant
from webhooks.diagnosis.claims import read_json
from webhooks.drain import Reading, read
from webhooks.inbox import Work, look
from webhooks.personal_data import masked
from webhooks.replay import REPLAY_MAX
from webhooks.replayed import PaymentDiff, Replayed

EXIT_LEFT = 3

#: Of an error in a table; ``inbox show`` and ``--json`` tell all of it.
_ERROR_CHARACTERS_MAX = 60

_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}

Json = Mapping[str, Any]
P = ParamSpec("P")
R = TypeVar("R")


class Duration(click.ParamType[timedelta]):
    """A length of time such as ``90s``, ``15m``, ``2h`` or ``1d``."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read the duration, or fail as a usage error."""
        found = re.fullmatch(r"(\d{1,6})(s|m|min|h|d)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration such as 90s, 15m, 2h or 1d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.group()
def inbox() -> None:
    """Look at the stored webhooks, and apply them again."""


def _filters(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that choose webhooks by what they are and when they came."""
    for option in (
        click.option("--until", type=Instant(), help="Received before this time."),
        click.option("--since", type=Instant(), help="Received at this time or later."),
        click.option("--older-than", type=Duration(), help="Received so long ago: 15m, 2h, 1d."),
        click.option("--event-code", help="Only this event code."),
        account_option,
    ):
        command = option(command)
    return command


@inbox.command("list")
@click.option(
    "--state", type=click.Choice([state.value for state in InboxState]), help="Only these."
)
@click.option("--orphans", "is_orphan", is_flag=True, help="Only those that await their payment.")
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json_option
def list_inbox(*, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401  # see _wanted
    """List stored webhooks, newest first: where each stands, and what it waits for."""
    wired = container()
    now = wired.clock.now()
    wanted = _wanted(now, **chosen)
    with wired.engine.connect() as connection:
        found = list_webhooks(connection, wanted, now=now)
        back_to = looked_back_to(connection, wanted) if len(found) < wanted.limit else None
    rows = found if as_json else [_table_row(row) for row in found]
    print_rows(rows, as_json=as_json, empty="no such webhook is stored")
    if back_to is not None:
        click.echo(
            f"only the newest {LOOKED_AT_MAX} webhooks were looked at;"
            f" for those before: --until {instant(back_to)}",
            err=True,
        )


@inbox.command()
@click.argument("guid", type=click.UUID)
@click.option("--reveal", is_flag=True, help="Do not mask personal data.")
@click.option("--raw", is_flag=True, help="Print the body that counts now, byte for byte.")
@as_json_option
def show(guid: UUID, *, reveal: bool, raw: bool, as_json: bool) -> None:  # noqa: ARG001  # it is JSON either way
    """Print one stored webhook as JSON: where it stands, its deliveries, what it said and did.

    Personal data of shoppers is masked.
    """
    wired = container()
    with wired.engine.connect() as connection:
        work = look(connection, guid)
        shown = get_webhook(connection, guid, now=wired.clock.now())
        if shown is None:
            raise NotificationNotFound(str(guid))
        if raw:
            _print_raw(work.body, reveal=reveal)
            return
        said, did = _said(work, reveal=reveal), _did(connection, work)
    print_json({**shown, **said, **did})


@inbox.command()
@click.argument("guids", metavar="GUID...", nargs=-1, type=click.UUID)
@click.option("--dry-run", is_flag=True, help="Tell what would come of it; keep nothing.")
@click.option(
    "--state",
    type=click.Choice([InboxState.DEAD.value, InboxState.PARKED.value]),
    help="Instead of GUIDs: the oldest of these.",
)
@_filters
@click.option("--limit", type=click.IntRange(1, REPLAY_MAX), default=REPLAY_MAX, show_default=True)
@grounds_options(default_reason="replayed from the command line")
@as_json_option
def replay(
    guids: tuple[UUID, ...],
    *,
    dry_run: bool,
    reason: str,
    by: str | None,
    as_json: bool,
    **chosen: Any,  # noqa: ANN401  # see _wanted
) -> None:
    """Apply stored webhooks again, now, in one transaction: done, parked and dead ones alike.

    Prints what came of each, and every payment before and after. A dry run does the same and takes
    it back. Exit codes: 0 each was applied or had nothing to apply, 3 some are still not applied.
    """
    wired = container()
    wanted = _wanted(wired.clock.now(), **chosen)
    _require_one_choice(guids, wanted)
    if not guids:
        with wired.engine.connect() as connection:
            guids = tuple(oldest_waiting(connection, wanted))
    replayed = wired.replay.run(guids, grounds=None if dry_run else grounds_of(reason, by))
    if as_json:
        print_json(replayed.as_json())
    else:
        for line in _lines(replayed):
            click.echo(_plain(line))
    if not guids:
        click.echo("no such webhook is stored", err=True)
    elif wanted.state is not None and len(guids) == wanted.limit:
        click.echo(f"these are the oldest {wanted.limit}; there may be more", err=True)
    sys.exit(0 if replayed.is_settled else EXIT_LEFT)


def _wanted(
    now: datetime,
    *,
    older_than: timedelta | None,
    until: datetime | None,
    **chosen: Any,  # noqa: ANN401  # options that are called as the filter's fields
) -> InboxFilter:
    if older_than is not None:
        until = min(now - older_than, until or now)
    return InboxFilter(until=until, **chosen)


def _require_one_choice(guids: Sequence[UUID], wanted: InboxFilter) -> None:
    chosen_by = (wanted.merchant_account, wanted.event_code, wanted.since, wanted.until)
    if wanted.state is None and (not guids or any(chosen_by)):
        raise click.UsageError("give GUIDs, or --state and what else chooses them")
    if wanted.state is not None and guids:
        raise click.UsageError("--state goes without GUIDs")
    if len(guids) > REPLAY_MAX:
        raise click.UsageError(f"one transaction takes at most {REPLAY_MAX} webhooks")


def _table_row(row: Json) -> Json:
    success = "true" if row["success"] else "false"
    return {
        "received": row["received_at"],
        "age": as_age(row["age_seconds"]),
        "state": "orphan" if row["awaits"] else row["state"],
        "event": _plain(f"{row['event_code']} {success}"),
        "psp_reference": _plain(row["psp_reference"]),
        "merchant_reference": _plain(row["merchant_reference"]),
        "deliveries": row["deliveries"],
        "attempts": row["attempts"],
        "due": row["due"],
        "why": _plain(_why(row)) or None,
        "guid": row["guid"],
    }


def _why(row: Json) -> str:
    if row["awaits"]:
        names = (f"{name} {value}" for name, value in row["awaits"].items() if value)
        return f"awaits {', '.join(names)}"
    error = row["error"] or ""
    is_long = len(error) > _ERROR_CHARACTERS_MAX
    return f"{error[: _ERROR_CHARACTERS_MAX - 1]}…" if is_long else error


def _said(work: Work, *, reveal: bool) -> Json:
    """Return the item as it counts now, and the body that holds it."""
    reading = _reading(work)
    body = read_json(work.body)
    item = reading.notification.item if isinstance(reading, Reading) else None
    return {
        "unreadable": None if isinstance(reading, Reading) else reading,
        "item": item if reveal else masked(item),
        "body": body if reveal else masked(body),
    }


def _did(connection: Connection, work: Work) -> Json:
    """Return the payment that a webhook is about, and what it brought about there."""
    reading = _reading(work)
    if not isinstance(reading, Reading) or reading.meaning is None:
        return {"payment": None, "events": []}
    name = reading.payment_name
    payment_id = find_payment(
        connection,
        merchant_account=name.merchant_account,
        merchant_reference=name.merchant_reference,
        psp_reference=name.psp_reference,
    )
    if payment_id is None:
        return {"payment": None, "events": []}
    return {
        "payment": get_payment(connection, payment_id, merchant_account=None),
        "events": events_caused(connection, work.guid, payment_id),
    }


def _reading(work: Work) -> Reading | str:
    """Return the webhook as the drain reads it, or why that can't be."""
    try:
        return read(work)
    except MalformedNotification as error:
        return str(error)


def _print_raw(body: bytes, *, reveal: bool) -> None:
    """Print the exact bytes. They can't be masked, so that personal data asks for --reveal."""
    content = read_json(body)
    if not reveal and (content is None or masked(content) != content):
        raise click.UsageError("the body may hold personal data: --raw needs --reveal")
    click.echo(body, nl=False)


def _lines(replayed: Replayed) -> Iterator[str]:
    if replayed.is_preview:
        yield "dry run: this is what would happen; nothing was kept"
    for one in replayed.webhooks:
        why = f": {one.why}" if one.why else ""
        events = f" ({', '.join(one.events)})" if one.events else ""
        tries = f", {one.attempts} tries failed" if one.attempts else ""
        stands = f" [{one.state.value}{tries}]" if one.state not in {None, InboxState.DONE} else ""
        yield f"{one.guid} {one.event or 'unreadable'}: {one.result.value}{why}{events}{stands}"
    for diff in replayed.payments.values():
        yield from _diff_lines(diff, replayed.id_of(diff.after.payment_id))


def _diff_lines(diff: PaymentDiff, payment_id: str | None) -> Iterator[str]:
    """Tell what differs, one line each, and then what does not."""
    yield f"payment {payment_id or '(new, external)'} {diff.after.merchant_reference}"
    for name in diff.changed:
        yield f"  {name}: {_value(diff.values_before.get(name))} → {_value(diff.values[name])}"
    same = [
        f"{name} {_value(value)}" for name, value in diff.values.items() if name not in diff.changed
    ]
    yield f"  unchanged: {', '.join(same)}" if same else "  all of it is new"


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def _plain(text: str) -> str:
    """Return text that can't move the cursor or colour the terminal, whoever wrote it."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
