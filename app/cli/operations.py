"""``payment resume|skip|force|abandon``, ``review`` and ``audit``: what people do by hand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import click

from app.cli.options import account_option, container, grounds_of, grounds_options
from app.cli.output import as_json_option, print_json, print_rows
from app.domain.flow import FlowState
from app.domain.money import Money
from app.queries.ages import as_age
from app.queries.operator_actions import operator_actions
from app.queries.payments import payment_json
from app.queries.reviews import open_reviews
from app.sagas.recovery import Recovery
from app.services.assign_review import assign_review
from app.services.operate import FORCED, Operation, Remedy, operate

_HELP: Mapping[Remedy, str] = {
    Remedy.RESUME: """Let what failed be asked again: the capture, or the undo.

    A call that may have taken effect is repeated under its own key, so that resuming never moves
    money twice. What the PSP has told meanwhile is looked at first.
    """,
    Remedy.SKIP: """Count what failed as done, since you have seen to it, and go on.

    An undo goes on with the next one; a capture goes on with the confirmation mail.
    """,
    Remedy.FORCE: """End it here, in the state that you name, as it is.

    Nothing is asked of anybody. Money that comes later is given back, but for a payment in fin.
    """,
    Remedy.ABANDON: """Give the payment up and undo everything.

    As long as its mail is not due, or in manual_review. Afterwards it is refunded instead.
    """,
}

#: As the queries return it.
Json = Mapping[str, Any]


def remedies() -> Iterator[click.Command]:
    """Yield the commands that do something about one payment."""
    for remedy in Remedy:
        yield _command(remedy)


def _command(remedy: Remedy) -> click.Command:
    @click.command(remedy.value, help=_HELP[remedy])
    @click.argument("payment_id", metavar="ID", type=click.UUID)
    @grounds_options()
    @click.option(
        "--if-version",
        type=click.IntRange(1),
        help="Only if it is still the version that you looked at.",
    )
    @as_json_option
    def command(
        payment_id: UUID,
        *,
        reason: str,
        by: str | None,
        if_version: int | None,
        as_json: bool,
        to: str | None = None,
    ) -> None:
        wired = container()
        payment = operate(
            Operation(
                payment_id=payment_id,
                remedy=remedy,
                grounds=grounds_of(reason, by),
                to=FlowState(to) if to else None,
                version=if_version,
            ),
            unit_of_work=wired.unit_of_work,
            recovery=Recovery(wired.definitions),
            clock=wired.clock,
        )
        if as_json:
            print_json(payment_json(payment))
        else:
            click.echo(f"{payment.payment_id} {payment.merchant_reference}: {payment.state}")

    if remedy is Remedy.FORCE:
        states = click.Choice([state.value for state in FORCED])
        click.option("--to", type=states, required=True, help="Where it ends.")(command)
    return command


@click.group()
def review() -> None:
    """The payments that wait for a person."""


@review.command("list")
@click.option("--owner", metavar="NAME", help="Only what lies on this desk.")
@account_option
@as_json_option
def list_reviews(owner: str | None, merchant_account: str | None, *, as_json: bool) -> None:
    """List what waits for a person, oldest first: whose it is, why, and what to do about it."""
    wired = container()
    with wired.engine.connect() as connection:
        found = open_reviews(
            connection, now=wired.clock.now(), merchant_account=merchant_account, owner=owner
        )
    rows = found if as_json else [_table_row(row) for row in found]
    print_rows(rows, as_json=as_json, empty="nothing waits for a person")


@review.command()
@click.argument("payment_id", metavar="ID", type=click.UUID)
@click.option("--to", required=True, metavar="NAME", help="Whose desk it goes to.")
@grounds_options()
def assign(payment_id: UUID, *, to: str, reason: str, by: str | None) -> None:
    """Put the payment ID on another desk."""
    wired = container()
    assign_review(
        payment_id,
        to=to.strip(),
        grounds=grounds_of(reason, by),
        unit_of_work=wired.unit_of_work,
        clock=wired.clock,
    )
    click.echo(f"{payment_id} is on the desk of {to.strip()}", err=True)


@click.command()
@click.option("--subject", metavar="ID", help="Only this payment's id, or this webhook's GUID.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json_option
def audit(subject: str | None, limit: int, *, as_json: bool) -> None:
    """List what people did by hand, and why, newest first."""
    with container().engine.connect() as connection:
        found = operator_actions(connection, subject=subject, limit=limit)
    rows = found if as_json else [_audit_row(row) for row in found]
    print_rows(rows, as_json=as_json, empty="nothing was done by hand")


def _table_row(row: Json) -> Json:
    currency = row["amount"]["currency"]
    return {
        "payment": row["payment_id"],
        "merchant_reference": row["merchant_reference"],
        "owner": row["owner"],
        "age": as_age(row["age_seconds"]),
        "reason": f"{row['reason']} ({row['step']})" if row["step"] else row["reason"],
        "held": str(Money(row["held"], currency)),
        "kept": str(Money(row["kept"], currency)),
        "next_step": row["next_step"],
    }


def _audit_row(row: Json) -> Json:
    return {
        "at": row["at"],
        "operator": row["operator"],
        "action": row["action"],
        "subject": row["subject"],
        "change": _change(row["before"], row["after"]),
        "reason": row["reason"],
    }


def _change(before: Json, after: Json) -> str:
    """Tell what is most worth knowing of a change."""
    for path in (("state",), ("webhook", "state"), ("review", "owner")):
        if path[0] in before:
            return f"{_at(before, path)} → {_at(after, path)}"
    denied = after or before
    return f"{denied['kind']} {denied['value']}" if "kind" in denied else "-"


def _at(value: Any, path: Sequence[str]) -> Any:  # noqa: ANN401  # JSON values
    for name in path:
        value = value[name]
    return value
