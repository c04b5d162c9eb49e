"""``webhook`` and ``inbox``: send a test webhook, look at what was stored."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import httpx2

from app.cli.options import container
from app.cli.output import as_json_option, print_json, print_rows
from app.errors import (
    GatewayUnavailable,
    KeyNotFound,
    MalformedNotification,
    NotificationNotFound,
)
from app.persistence.tables import InboxState
from webhooks.inbox import LIST_SQL, SHOW_SQL
from webhooks.notifications import parse
from webhooks.signatures import sign, signing_string


@click.group()
def webhook() -> None:
    """Test webhooks."""


@webhook.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--merchant", "account", help="Whose key signs; the item's own account by default.")
@click.option("--url", help="Where to post; this service by default.")
def send(file: Path, account: str | None, url: str | None) -> None:
    """Sign the items in FILE with the account's newest key and post them.

    FILE holds a standard webhook, or one bare item.
    """
    wired = container()
    envelope = _envelope(file)
    for wrapped, notification in zip(
        envelope["notificationItems"], parse(json.dumps(envelope).encode()), strict=True
    ):
        signer = account or notification.merchant_account
        keys = wired.accounts.live_keys(signer)
        if not keys:
            raise KeyNotFound(f"{signer} has no live HMAC key")
        item = wrapped["NotificationRequestItem"]
        data = item.setdefault("additionalData", {})
        data["hmacSignature"] = sign(signing_string(notification.signed_values), keys[0][1])
    target = url or f"{wired.settings.public_url}/webhooks/adyen"
    try:
        answer = httpx2.post(target, json=envelope, timeout=10)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise GatewayUnavailable(f"{target}: {type(error).__name__}") from None
    click.echo(f"{answer.status_code} {answer.text.strip()}")
    if not answer.is_success:
        raise SystemExit(1)


def _envelope(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        raise MalformedNotification(f"{file} is not JSON") from None
    if isinstance(content, dict) and "notificationItems" not in content:
        item = content.get("NotificationRequestItem", content)
        content = {"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}
    if not isinstance(content, dict):
        raise MalformedNotification(f"{file} is neither a standard webhook nor an item")
    if not isinstance(content["notificationItems"], list):
        raise MalformedNotification("notificationItems is not a list of items")
    for wrapped in content["notificationItems"]:
        item = wrapped.get("NotificationRequestItem") if isinstance(wrapped, dict) else None
        if isinstance(item, dict):
            item.setdefault("eventDate", datetime.now(UTC).isoformat(timespec="seconds"))  # noqa: TID251  # a sample's date
    return content


@click.group()
def inbox() -> None:
    """Look at the stored webhooks."""


@inbox.command("list")
@click.option(
    "--state", type=click.Choice([state.value for state in InboxState]), help="Only these."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json_option
def list_inbox(state: str | None, limit: int, *, as_json: bool) -> None:
    """List stored webhooks, newest first."""
    with container().engine.connect() as connection:
        rows = connection.execute(LIST_SQL, {"state": state, "limit": limit}).mappings().all()
    print_rows([dict(row) for row in rows], as_json=as_json, empty="no such webhook is stored")


@inbox.command()
@click.argument("guid", type=click.UUID)
@as_json_option
def show(guid: UUID, *, as_json: bool) -> None:  # noqa: ARG001  # it is JSON either way
    """Print one stored webhook as JSON: where it stands, how often it came, and the item."""
    with container().engine.connect() as connection:
        row = connection.execute(SHOW_SQL, {"guid": guid}).mappings().one_or_none()
    if row is None:
        raise NotificationNotFound(str(guid))
    print_json({key: _plain(value) for key, value in row.items()})


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | dict | None) else str(value)
