"""``payment``, ``states`` and ``verify``: what the records say."""

import sys
from uuid import UUID

import click

from app.cli.operations import remedies
from app.cli.options import container
from app.cli.output import as_json_option, print_json
from app.domain.flow import draw_dot, draw_mermaid
from app.queries.ages import as_age
from app.queries.payments import Json, get_payment
from app.queries.reviews import open_review
from app.queries.timeline import timeline
from reconciliation.verification import verify as verify_all


@click.group()
def payment() -> None:
    """Look at payments, and take one off the desk that it lies on."""


for remedy in remedies():
    payment.add_command(remedy)


@payment.command()
@click.argument("payment_id", type=click.UUID)
@as_json_option
def show(payment_id: UUID, *, as_json: bool) -> None:
    """Show the payment and everything that happened to it, oldest first."""
    wired = container()
    with wired.engine.connect() as connection:
        found = get_payment(connection, payment_id, merchant_account=None)
        review = open_review(connection, payment_id, now=wired.clock.now())
        history = timeline(connection, payment_id)
    if as_json:
        print_json(found | {"review": review, "timeline": history["items"]})
        return
    for name in ("id", "merchant_account", "merchant_reference", "psp_reference", "state"):
        click.echo(f"{name:20} {found[name] or '-'}")
    if found["reason"]:
        click.echo(f"{'reason':20} {found['reason']}")
    for name in ("amount", "funds"):
        values = found[name]
        assert isinstance(values, dict)  # noqa: S101  # of the view's own making
        click.echo(f"{name:20} " + "  ".join(f"{key} {value}" for key, value in values.items()))
    if review:
        _print_review(review)
    items = history["items"]
    assert isinstance(items, list)  # noqa: S101  # the same
    for item in items:
        click.echo(f"{item['at']}  {item['title']}{_why(item)}")


def _why(item: Json) -> str:
    """Tell why a call failed, or why a party said no, as far as it said."""
    data = item["data"]
    assert isinstance(data, dict)  # noqa: S101  # of the timeline's own making
    if item["kind"] == "step_failed":
        return f" ({data['detail']})"
    if item["kind"] != "step_answered" or data["status"] != "refused":
        return ""
    told = [data["answer"].get(name) for name in _SAYS_WHY]
    said = ", ".join(str(word) for word in told if word)
    return f" ({said})" if said else ""


#: What the parties call their reasons.
_SAYS_WHY = ("rule", "reason", "smtp_code", "unsendable")


def _print_review(review: Json) -> None:
    age_seconds = review["age_seconds"]
    assert isinstance(age_seconds, int)  # noqa: S101  # of the view's own making
    click.echo(f"{'on the desk of':20} {review['owner']}, for {as_age(age_seconds)}")
    click.echo(f"{'next step':20} {review['next_step']}")


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "dot"]),
    default="mermaid",
    show_default=True,
)
def states(form: str) -> None:
    """Draw the flow's transition table, from the code that enforces it."""
    click.echo(draw_mermaid() if form == "mermaid" else draw_dot())


@click.command()
@as_json_option
def verify(*, as_json: bool) -> None:
    """Rebuild every payment from its events, compare, check the hash chain. Exit 0 if all agree."""
    with container().engine.connect() as connection:
        snapshot = connection.execution_options(isolation_level="REPEATABLE READ")
        found = verify_all(snapshot)
    if as_json:
        print_json(
            {
                "payments": found.payments,
                "events": found.events,
                "discrepancies": [one.as_json() for one in found.discrepancies],
            }
        )
    else:
        for one in found.discrepancies:
            click.echo(f"{one.payment_id}: {one.what}")
        agree = "all agree" if not found.discrepancies else f"{len(found.discrepancies)} do not"
        click.echo(f"{found.payments} payments, {found.events} events: {agree}")
    sys.exit(1 if found.discrepancies else 0)
