"""``psp-queue``: does the PSP get through to us, or are we blocking its queue?"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from app.cli.options import account_option, container
from app.cli.output import as_json_option, print_json
from app.queries.ages import as_age
from app.queries.psp_queue import psp_queue as examine

EXIT_UNHEALTHY = 3

#: As `app.queries.psp_queue` returns it.
Json = Mapping[str, Any]


@click.command()
@account_option
@as_json_option
def psp_queue(merchant_account: str | None, *, as_json: bool) -> None:
    """Tell whether the PSP's queue moves: what it tries in vain, what came twice, what waits.

    The PSP sends the oldest webhook first and waits for its acceptance. What is told about refused
    ones is claimed by whoever posted them. Exit codes: 0 healthy, 3 the PSP is being refused or
    dead webhooks exist.
    """
    wired = container()
    with wired.engine.connect() as connection:
        found = examine(connection, now=wired.clock.now(), merchant_account=merchant_account)
    if as_json:
        print_json(found)
    else:
        for line in _lines(found):
            click.echo(line)
    sys.exit(0 if found["is_healthy"] else EXIT_UNHEALTHY)


def _lines(found: Json) -> Iterator[str]:
    for account in found["accounts"]:
        yield from _account(account)
    yield "waiting"
    for row in found["waiting"]:
        yield f"  {_waiting(row)}"
    redelivered = found["redelivered"]
    within = as_age(redelivered["within_seconds"])
    yield f"accepted and delivered again in the last {within}: {redelivered['webhooks']}"
    for one in redelivered["newest"]:
        yield f"  {_webhook(one)}, {one['deliveries']} deliveries, gaps {_gaps(one['gaps'])}"
        yield f"    {one['explanation']}"


def _account(account: Json) -> Iterator[str]:
    heard = account["last_webhook_seconds"]
    last = "no webhook yet" if heard is None else f"last webhook {as_age(heard)} ago"
    state = "REFUSED" if account["refused"] else "ok"
    yield f"{account['merchant_account']}: {state}, {last}"
    for one in account["refused"]:
        event = one["claimed_event"] or "an unreadable body"
        yield (
            f"  refused for {as_age(one['blocked_seconds'])}, since {one['since']}: {event} "
            f"{one['claimed_guid'] or '-'}, {one['refusals']} times, {one['code']} "
            "(claimed by the sender, not verified)"
        )
        schedule = "the PSP's schedule" if one["is_on_schedule"] else "not the PSP's schedule"
        expected = "was expected" if one["is_overdue"] else "is expected"
        yield f"    gaps {_gaps(one['gaps'])}: {schedule}; next try {expected} {one['next_try_at']}"


def _waiting(row: Json) -> str:
    line = f"{row['reason']:7} {row['webhooks']}"
    if not row["webhooks"]:
        return line
    return (
        f"{line}, the oldest {as_age(row['oldest_seconds'])}; over a minute {row['over_a_minute']},"
        f" over an hour {row['over_an_hour']}, over a day {row['over_a_day']}"
    )


def _webhook(one: Json) -> str:
    outcome = "true" if one["success"] else "false"
    return (
        f"{one['merchant_account']} {one['event_code']} {outcome} {one['psp_reference']}"
        f" {one['guid']}"
    )


def _gaps(gaps: Sequence[Json]) -> str:
    return ", ".join(as_age(gap["seconds"]) for gap in gaps)
