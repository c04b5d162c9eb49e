"""``fraud``: the deny lists of the built-in fraud rules."""

import click

from app.cli.options import container, grounds_of, grounds_options
from app.cli.output import as_json_option, print_rows
from app.domain.fraud import Denial, DenialKind

_kind = click.argument("kind", type=click.Choice([kind.value for kind in DenialKind]))
_merchant = click.option("--merchant", "account", required=True, help="The merchant account.")


@click.group()
def fraud() -> None:
    """Say whom the built-in fraud rules refuse."""


@fraud.group()
def deny() -> None:
    """Change and list the deny lists, one for each merchant account.

    KIND is `email`, one mail address, or `email_domain`, every address at a domain and at those
    below it. Case does not matter. An entry counts from the next payment on.
    """


@deny.command()
@_kind
@click.argument("value")
@_merchant
@grounds_options()
def add(kind: str, value: str, *, account: str, reason: str, by: str | None) -> None:
    """Refuse VALUE from now on."""
    denial = _denial(kind, value)
    added = container().fraud_denials.add(account, denial, grounds_of(reason, by))
    what = "is refused from now on" if added else "is on the list already"
    click.echo(f"{denial.value} {what}", err=True)


@deny.command()
@_kind
@click.argument("value")
@_merchant
@grounds_options()
def remove(kind: str, value: str, *, account: str, reason: str, by: str | None) -> None:
    """Refuse VALUE no longer."""
    denial = _denial(kind, value)
    removed = container().fraud_denials.remove(account, denial, grounds_of(reason, by))
    if not removed:
        raise click.ClickException(f"{denial.value} is not on the list of {account}")
    click.echo(f"{denial.value} is refused no longer", err=True)


@deny.command("list")
@click.option("--merchant", "account", help="Only this merchant account.")
@as_json_option
def list_denials(account: str | None, *, as_json: bool) -> None:
    """List who is refused, why, since when and by whom."""
    rows = [
        {
            "merchant_account": stored.merchant_account,
            "kind": stored.denial.kind.value,
            "value": stored.denial.value,
            "reason": stored.reason,
            "added_by": stored.added_by,
            "added_at": stored.added_at,
        }
        for stored in container().fraud_denials.list(account)
    ]
    print_rows(rows, as_json=as_json, empty="nobody is on a deny list")


def _denial(kind: str, value: str) -> Denial:
    try:
        return Denial.of(DenialKind(kind), value)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="VALUE") from None
