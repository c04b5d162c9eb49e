"""``merchant`` and ``api-key``: accounts and their keys."""

from datetime import timedelta

import click

from app.cli.options import Instant, container
from app.cli.output import as_json_option, print_rows
from app.domain.access import Role
from app.errors import InvalidFields
from app.persistence.accounts import hmac_key_of


@click.group()
def merchant() -> None:
    """Register merchant accounts and their HMAC keys."""


@merchant.command()
@click.argument("account")
@click.option("--hmac-key", "hmac_keys", multiple=True, help="64 hex digits; repeat for more keys.")
@click.option("--basic-user", help="User of the webhooks' Basic credentials.")
@click.option("--basic-password", help="Their password.")
def add(
    account: str,
    hmac_keys: tuple[str, ...],
    basic_user: str | None,
    basic_password: str | None,
) -> None:
    """Register ACCOUNT. Every key given is live at once."""
    if (basic_user is None) != (basic_password is None):
        raise click.UsageError("--basic-user and --basic-password go together")
    if basic_user == "" or basic_password == "":
        raise click.UsageError("--basic-user and --basic-password must not be empty")
    basic = (basic_user, basic_password) if basic_user and basic_password else None
    keys = [_key(text) for text in hmac_keys]
    container().accounts.add(account, keys, basic=basic)
    click.echo(f"registered {account} with {len(keys)} live HMAC key(s)", err=True)
    if not keys:
        click.echo("without a live HMAC key every webhook of it is refused", err=True)


@merchant.command("list")
@as_json_option
def list_accounts(*, as_json: bool) -> None:
    """List the accounts."""
    accounts = container().accounts
    rows = [
        {"merchant_account": name, "live_keys": len(accounts.live_keys(name))}
        for name in accounts.names()
    ]
    print_rows(rows, as_json=as_json, empty="no merchant account is registered")


@merchant.group()
def key() -> None:
    """Rotate an account's HMAC keys."""


@key.command("add")
@click.argument("account")
@click.option("--hmac-key", required=True, help="64 hex digits.")
def add_key(account: str, hmac_key: str) -> None:
    """Make one more key of ACCOUNT live. The others stay live until they are expired."""
    container().accounts.add_key(account, _key(hmac_key))
    click.echo(f"{account} has a new live key", err=True)


@key.command("expire")
@click.argument("account")
@click.argument("check_value")
@click.option(
    "--at", type=Instant(), help="When; by default in 30 days, as long as the PSP retries."
)
def expire_key(account: str, check_value: str, at: object) -> None:
    """Let the key of ACCOUNT with CHECK_VALUE expire."""
    wired = container()
    expires_at = Instant().convert(at, None, None) if at else None
    expires_at = expires_at or wired.clock.now() + timedelta(days=30)
    wired.accounts.expire_key(account, check_value, at=expires_at)
    click.echo(f"key {check_value} expires at {expires_at.isoformat()}", err=True)


@key.command("list")
@click.argument("account")
@as_json_option
def list_keys(account: str, *, as_json: bool) -> None:
    """List ACCOUNT's keys by check value; key material is never shown."""
    rows = [
        {
            "check_value": stored.check_value,
            "created_at": stored.created_at,
            "expires_at": stored.expires_at,
        }
        for stored in container().accounts.keys(account)
    ]
    print_rows(rows, as_json=as_json, empty=f"{account} has no HMAC key")


@click.group()
def api_key() -> None:
    """Make, list and revoke API keys."""


@api_key.command()
@click.option("--merchant", "account", required=True, help="The merchant account.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.MERCHANT.value,
    show_default=True,
)
@click.option("--expires-at", type=Instant(), help="When it stops working; never by default.")
def create(account: str, role: str, expires_at: object) -> None:
    """Print a new API key, once, alone on a line. Only its hash is kept."""
    until = Instant().convert(expires_at, None, None) if expires_at else None
    click.echo(container().accounts.create_api_key(account, Role(role), expires_at=until))


@api_key.command("list")
@as_json_option
def list_api_keys(*, as_json: bool) -> None:
    """List the API keys by prefix."""
    rows = [
        {
            "prefix": stored.prefix,
            "merchant_account": stored.merchant_account,
            "role": stored.role.value,
            "created_at": stored.created_at,
            "expires_at": stored.expires_at,
            "revoked_at": stored.revoked_at,
        }
        for stored in container().accounts.api_keys()
    ]
    print_rows(rows, as_json=as_json, empty="there is no API key")


@api_key.command()
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Make the API key that begins with PREFIX useless at once."""
    container().accounts.revoke_api_key(prefix)
    click.echo(f"revoked {prefix}", err=True)


def _key(text: str) -> bytes:
    try:
        return hmac_key_of(text)
    except InvalidFields as error:
        raise click.BadParameter(str(error), param_hint="--hmac-key") from None
