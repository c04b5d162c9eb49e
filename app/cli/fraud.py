"""``fraud``: the deny lists of the built-in fraud rules."""

import os
import pwd

import click

from app.cli.options import container
from app.cli.output import as_json_option, print_rows
from app.domain.fraud import Denial, DenialKind
from app.domain.operators import Grounds
from app.errors import InvalidFields

_kind = click.argument("kind", type=click.Choice([kind.value for kind in DenialKind]))
_merchant = click.option("--merchant", "account", required=True, help="The merchant account.")
_reason = click.option("--reason", required=True, help="Why; it is kept.")
_by = click.option("--by", help="Who decides it.  [default: the user of this shell]")


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
@_reason
@_by
def add(kind: str, value: str, *, account: str, reason: str, by: str | None) -> None:
    """Refuse VALUE from now on."""
    denial = _denial(kind, value)
    added = container().fraud_denials.add(account, denial, _grounds(by, reason))
    what = "is refused from now on" if added else "is on the list already"
    click.echo(f"{denial.value} {what}", err=True)


@deny.command()
@_kind
@click.argument("value")
@_merchant
@_reason
@_by
def remove(kind: str, value: str, *, account: str, reason: str, by: str | None) -> None:
    """Refuse VALUE no longer."""
    denial = _denial(kind, value)
    removed = container().fraud_denials.remove(account, denial, _grounds(by, reason))
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


def _grounds(by: str | None, reason: str) -> Grounds:
    try:
        return Grounds(_user() if by is None else by, reason)
    except InvalidFields as error:
        raise click.UsageError(str(error)) from None


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that has no name
        return f"uid {os.getuid()}"
