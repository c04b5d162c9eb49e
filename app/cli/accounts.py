"""``merchant`` and ``api-key``: accounts and their keys.

A secret may be given as an option, or in a file (``-`` is stdin), which keeps it out of the shell's
history and of the list of processes.
"""

from datetime import datetime, timedelta
from typing import BinaryIO

import click

from app.cli.options import Instant, container
from app.cli.output import as_json_option, print_json, print_rows
from app.domain.access import SERVICES, Role
from app.domain.keys import key_check_value
from app.domain.psp_retries import RETRY_HORIZON
from app.errors import InvalidFields
from app.persistence.accounts import StoredHmacKey, hmac_key_of

#: A key that is still in use so shortly before it expires is warned of.
EXPIRES_SOON = timedelta(days=7)


@click.group()
def merchant() -> None:
    """Register merchant accounts, their HMAC keys and Basic credentials."""


@merchant.command()
@click.argument("account")
@click.option("--hmac-key", "hmac_keys", multiple=True, help="64 hex digits; repeat for more keys.")
@click.option(
    "--hmac-key-file",
    "hmac_key_files",
    type=click.File("rb"),
    multiple=True,
    help="A file that holds one; - is stdin; repeat for more keys.",
)
@click.option("--basic-user", help="User of the webhooks' Basic credentials.")
@click.option("--basic-password", help="Their password.")
@click.option("--basic-password-file", type=click.File("rb"), help="A file that holds it.")
def add(
    account: str,
    hmac_keys: tuple[str, ...],
    hmac_key_files: tuple[BinaryIO, ...],
    *,
    basic_user: str | None,
    basic_password: str | None,
    basic_password_file: BinaryIO | None,
) -> None:
    """Register ACCOUNT. Every key given is live at once."""
    password = _password(basic_password, basic_password_file)
    if (basic_user is None) != (password is None):
        raise click.UsageError("--basic-user and --basic-password go together")
    basic = None if basic_user is None or password is None else _basic(basic_user, password)
    keys = [_key(text) for text in hmac_keys] + [_key_in(file) for file in hmac_key_files]
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


@merchant.command("basic")
@click.argument("account")
@click.option("--user", help="The user.")
@click.option("--password", help="The password.")
@click.option("--password-file", type=click.File("rb"), help="A file that holds it; - is stdin.")
@click.option("--none", "is_none", is_flag=True, help="The webhooks carry no Basic credentials.")
def basic_credentials(
    account: str,
    user: str | None,
    password: str | None,
    password_file: BinaryIO | None,
    *,
    is_none: bool,
) -> None:
    """Change the Basic credentials that ACCOUNT's webhooks carry.

    There is one pair at a time: until the PSP sends the same, its webhooks are refused.
    """
    secret = _password(password, password_file)
    if is_none and (user is not None or secret is not None):
        raise click.UsageError("--none goes alone")
    if not is_none and (user is None or secret is None):
        raise click.UsageError("give --user and --password (or --password-file), or --none")
    basic = None if user is None or secret is None else _basic(user, secret)
    container().accounts.set_basic_credentials(account, basic)
    what = "no Basic credentials" if basic is None else f"the Basic credentials of user {user}"
    click.echo(f"webhooks of {account} must carry {what} from now on", err=True)


@merchant.command()
@as_json_option
def reencrypt(*, as_json: bool) -> None:
    """Put every stored secret under the newest master key.

    First put the new key in front of COUNTERSIGN_ENCRYPTION_KEYS of every process and restart them
    all: a process without it can't open what this command closes. Afterwards the old keys may go.
    May be repeated at any time.
    """
    count = container().accounts.reencrypt()
    if as_json:
        print_json({"reencrypted": count})
    else:
        click.echo(f"{count} secret(s) re-encrypted; all are under the newest master key")


@merchant.group()
def key() -> None:
    """Rotate an account's HMAC keys.

    Make the new key at the PSP and add it here with --replace. Watch the old one fall silent in the
    list. It expires by itself when the PSP's last retry that it signed is over.
    """


@key.command("add")
@click.argument("account")
@click.option("--hmac-key", help="64 hex digits.")
@click.option("--hmac-key-file", type=click.File("rb"), help="A file that holds them; - is stdin.")
@click.option(
    "--replace",
    is_flag=True,
    help=f"Let the account's other keys expire, in {RETRY_HORIZON.days} days.",
)
@click.option(
    "--expire-others-in",
    "days",
    type=click.IntRange(min=RETRY_HORIZON.days),
    metavar="DAYS",
    help="The same, later.",
)
def add_key(
    account: str,
    hmac_key: str | None,
    hmac_key_file: BinaryIO | None,
    days: int | None,
    *,
    replace: bool,
) -> None:
    """Make one more key of ACCOUNT live. The others stay live unless they are replaced."""
    given = [_key(hmac_key)] if hmac_key is not None else []
    given += [_key_in(hmac_key_file)] if hmac_key_file is not None else []
    if len(given) != 1:
        raise click.UsageError("give one of --hmac-key and --hmac-key-file")
    [secret] = given
    wired = container()
    wait = timedelta(days=days) if days else RETRY_HORIZON
    others_expire_at = wired.clock.now() + wait if replace or days else None
    wired.accounts.add_key(account, secret, others_expire_at=others_expire_at)
    click.echo(f"key {key_check_value(secret)} of {account} is live", err=True)
    if others_expire_at:
        at = others_expire_at.isoformat(timespec="seconds")
        click.echo(f"the others expire at {at} at the latest", err=True)


@key.command("expire")
@click.argument("account")
@click.argument("check_value")
@click.option(
    "--at",
    type=Instant(),
    help=f"When; by default in {RETRY_HORIZON.days} days, as long as the PSP retries.",
)
def expire_key(account: str, check_value: str, at: datetime | None) -> None:
    """Let the key of ACCOUNT with CHECK_VALUE expire."""
    wired = container()
    retries_end_at = wired.clock.now() + RETRY_HORIZON
    expires_at = at or retries_end_at
    wired.accounts.expire_key(account, check_value, at=expires_at)
    click.echo(f"key {check_value.upper()} expires at {expires_at.isoformat()}", err=True)
    if expires_at < retries_end_at:
        _warn(
            "webhooks are signed when they are made, and retried for "
            f"{RETRY_HORIZON.days} days: retries in the PSP's queue still carry the old signature. "
            "Once the key has expired each is refused, and blocks all that come after it"
        )
    _warn_of_the_end(account, wired.accounts.keys(account))


@key.command("list")
@click.argument("account")
@as_json_option
def list_keys(account: str, *, as_json: bool) -> None:
    """List ACCOUNT's keys by check value, with their uses; key material is never shown.

    The check value is what the PSP's customer area shows of the key. Uses are verified webhooks by
    UTC day. An old key that is not used any more has fallen silent.
    """
    wired = container()
    keys = wired.accounts.keys(account)
    rows = [
        {
            "check_value": stored.check_value,
            "status": "live" if stored.is_live else "expired",
            "created_at": stored.created_at,
            "expires_at": stored.expires_at,
            "uses_today": stored.uses_today,
            "uses_yesterday": stored.uses_yesterday,
            "uses_7_days": stored.uses_7_days,
            "last_used_at": stored.last_used_at,
        }
        for stored in keys
    ]
    print_rows(rows, as_json=as_json, empty=f"{account} has no HMAC key")
    _warn_of_use(keys, expires_before=wired.clock.now() + EXPIRES_SOON)


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
@click.option("--service", type=click.Choice(SERVICES), help="Whose commands a participant takes.")
@click.option("--expires-at", type=Instant(), help="When it stops working; never by default.")
def create(account: str, role: str, service: str | None, expires_at: datetime | None) -> None:
    """Print a new API key, once, alone on a line. Only its hash is kept.

    A participant's key takes the commands of one service, and opens nothing else.
    """
    if (role == Role.PARTICIPANT) != (service is not None):
        raise click.UsageError("--role participant and --service go together")
    accounts = container().accounts
    key = accounts.create_api_key(account, Role(role), service_id=service, expires_at=expires_at)
    click.echo(key)


@api_key.command("list")
@as_json_option
def list_api_keys(*, as_json: bool) -> None:
    """List the API keys by prefix."""
    rows = [
        {
            "prefix": stored.prefix,
            "merchant_account": stored.merchant_account,
            "role": stored.role.value,
            "service": stored.service_id,
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


def _warn_of_use(keys: list[StoredHmacKey], *, expires_before: datetime) -> None:
    """Say which keys are about to expire although webhooks still carry their signature."""
    for stored in keys:
        is_used = bool(stored.uses_today or stored.uses_yesterday)
        if is_used and stored.is_live and stored.expires_at and stored.expires_at < expires_before:
            _warn(
                f"key {stored.check_value} expires at {stored.expires_at.isoformat()} and is still "
                "in use: does the PSP sign with the new one?"
            )


def _warn_of_the_end(account: str, keys: list[StoredHmacKey]) -> None:
    """Say so if a time will come, or has come, at which the account has no live key."""
    ends = [stored.expires_at for stored in keys if stored.expires_at is not None]
    if len(ends) < len(keys):
        return
    when = (
        f"after {max(ends).isoformat()}"
        if any(stored.is_live for stored in keys)
        else "from now on"
    )
    _warn(
        f"{when} {account} HAS NO LIVE KEY and every webhook of it is refused: "
        "add the new one with `merchant key add`"
    )


def _warn(what: str) -> None:
    click.echo(f"WARNING: {what}", err=True)


def _key(text: str) -> bytes:
    try:
        return hmac_key_of(text)
    except InvalidFields as error:
        raise click.BadParameter(str(error), param_hint="--hmac-key") from None


def _key_in(file: BinaryIO) -> bytes:
    return _key(file.read().decode("ascii", "replace").strip())


def _password(given: str | None, file: BinaryIO | None) -> str | None:
    """Return the password, without the line end that editors and ``echo`` put after it."""
    if file is None:
        return given
    if given is not None:
        raise click.UsageError("give the password as an option or in a file, not both")
    try:
        return file.read().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the file of the password holds no text") from None


def _basic(user: str, password: str) -> tuple[str, str]:
    if not user or not password:
        raise click.UsageError("user and password must not be empty")
    if ":" in user:
        raise click.UsageError("a colon ends the user of Basic credentials: it can't hold one")
    return user, password
