"""``webhook``: send a test webhook, explain why one is refused."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
import httpx2

from app.bootstrap import Container
from app.cli.options import container
from app.cli.output import as_json_option, print_json, print_rows
from app.errors import GatewayUnavailable, KeyNotFound, MalformedNotification, NotFound
from app.persistence.tables import Scheme
from webhooks.diagnosis.claims import read_json
from webhooks.diagnosis.evidence import EvidenceRoom
from webhooks.diagnosis.findings import FindingCode
from webhooks.notifications import parse
from webhooks.refusals import LIST_REFUSALS_SQL, ROWS_MAX, SHOW_REFUSAL_SQL
from webhooks.signatures import sign, signing_string


@click.group()
def webhook() -> None:
    """Send a test webhook; explain refused ones."""


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
        content = _wrapped(content)
    if not isinstance(content, dict):
        raise MalformedNotification(f"{file} is neither a standard webhook nor an item")
    if not isinstance(content["notificationItems"], list):
        raise MalformedNotification("notificationItems is not a list of items")
    for wrapped in content["notificationItems"]:
        item = wrapped.get("NotificationRequestItem") if isinstance(wrapped, dict) else None
        if isinstance(item, dict):
            item.setdefault("eventDate", datetime.now(UTC).isoformat(timespec="seconds"))  # noqa: TID251  # a sample's date
    return content


def _wrapped(item: dict[str, Any]) -> dict[str, Any]:
    """Return a standard webhook of one item, which may be bare."""
    bare = item.get("NotificationRequestItem", item)
    return {"live": "false", "notificationItems": [{"NotificationRequestItem": bare}]}


@webhook.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--header-signature", help="Of the header HmacSignature: FILE is the raw body.")
@click.option("--merchant", "account", help="Whose keys count; the claimed account's by default.")
@click.option(
    "--refusal",
    "refusal_id",
    type=click.IntRange(1, 2**63 - 1),
    help="Explain a kept refusal instead of FILE.",
)
@as_json_option
def explain(
    file: BinaryIO | None,
    header_signature: str | None,
    account: str | None,
    refusal_id: int | None,
    *,
    as_json: bool,
) -> None:
    """Say why the signatures in FILE (- for stdin) do not verify. Exit code 0 if they all do.

    FILE holds a standard webhook, one bare item, or the raw body of a webhook that is signed in its
    header. Nothing is sent or stored.
    """
    if refusal_id is not None:
        if (file, header_signature, account) != (None, None, None):
            raise click.UsageError("--refusal goes without FILE and its options")
        report = _kept_refusal(container(), refusal_id)
    elif file is not None:
        report = _explained(container().evidence, file.read(), header_signature, account)
    else:
        raise click.UsageError("give FILE, or --refusal")
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if not report["is_authentic"]:
        raise SystemExit(1)


@webhook.command()
@click.option("--limit", type=click.IntRange(1, ROWS_MAX), default=50, show_default=True)
@as_json_option
def refusals(limit: int, *, as_json: bool) -> None:
    """List the kept refusals, newest first, each with the first thing found wrong.

    What they claim is what strangers sent: nothing of it is verified.
    """
    with container().engine.connect() as connection:
        rows = connection.execute(LIST_REFUSALS_SQL, {"limit": limit}).mappings().all()
    print_rows([dict(row) for row in rows], as_json=as_json, empty="no refused webhook is kept")


def _explained(
    evidence: EvidenceRoom, body: bytes, header_signature: str | None, account: str | None
) -> dict[str, Any]:
    content = read_json(body)
    scheme = Scheme.ITEM if header_signature is None else Scheme.HEADER
    if isinstance(content, dict) and "notificationItems" not in content:
        if "type" in content:
            scheme = Scheme.HEADER
        elif scheme is Scheme.ITEM:
            body = json.dumps(_wrapped(content)).encode()
    diagnoses = evidence.diagnose(
        body, scheme=scheme, header_signature=header_signature, merchant_account=account
    )
    items = [
        {
            "where": one.where,
            "event": one.claim.event,
            "merchant_account": one.claim.merchant_account,
            "is_authentic": one.is_authentic,
            "signing_string": one.signing_string,
            "findings": [finding.as_json() for finding in one.findings],
        }
        for one in diagnoses
    ]
    return {"is_authentic": all(one.is_authentic for one in diagnoses), "items": items}


def _kept_refusal(wired: Container, refusal_id: int) -> dict[str, Any]:
    """Return a kept refusal with what was found when it came: keys may have changed since."""
    with wired.engine.connect() as connection:
        rows = connection.execute(SHOW_REFUSAL_SQL, {"refusal_id": refusal_id}).mappings()
        kept = rows.one_or_none()
    if kept is None:
        raise NotFound(f"no refusal {refusal_id} is kept")
    try:
        signed = [signing_string(one.signed_values).decode() for one in parse(bytes(kept["body"]))]
    except MalformedNotification:
        signed = []
    strings = {f"notificationItems[{place}]": string for place, string in enumerate(signed)}
    items = [
        {
            "where": item["where"],
            "is_authentic": all(one["code"] == FindingCode.VALID for one in item["findings"]),
            "signing_string": strings.get(item["where"]),
            "findings": item["findings"],
        }
        for item in kept["diagnosis"] or ()
    ]
    return {
        "refusal_id": refusal_id,
        "received_at": kept["received_at"].isoformat(),
        "code": kept["code"],
        "detail": kept["detail"],
        "scheme": kept["scheme"],
        "claimed_account": kept["claimed_account"],
        "claimed_event": kept["claimed_event"],
        "claimed_guid": str(kept["claimed_guid"]) if kept["claimed_guid"] else None,
        "remote_address": kept["remote_address"],
        "is_authentic": False,
        "items": items,
    }


def _print_report(report: Mapping[str, Any]) -> None:
    for name, value in report.items():
        if name not in {"is_authentic", "items"}:
            _say(f"{name}: {value}")
    for item in report["items"]:
        verdict = "verifies" if item["is_authentic"] else "is refused"
        claimed = f" ({item['event']})" if item.get("event") else ""
        _say(f"{item['where']}{claimed} {verdict}")
        if item["signing_string"] is not None:
            _say(f"  signs: {item['signing_string']}")
        for finding in item["findings"]:
            _say(f"  {finding['code']}: {finding['sentence']}")
            if finding["code"] != FindingCode.VALID:
                _say(f"    next: {finding['next_step']}")
    if not report["items"]:
        _say("it was not diagnosed when it came")


def _say(line: str) -> None:
    """Print a line; what a stranger put into it can't move the cursor or colour the terminal."""
    click.echo(
        "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
    )
