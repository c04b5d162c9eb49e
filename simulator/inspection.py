"""For tests and demonstrations: the books, the health, a webhook made to order."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, request

from simulator import access, clock, ledger, notifications, outbox
from simulator.outbox import State
from simulator.world import World, json_body, json_response


def blueprint(world: World) -> Blueprint:
    """Return the routes that no outside service has."""
    routes = Blueprint("inspection", __name__)

    @routes.get("/health")
    def health() -> Response:
        return json_response({"status": "ok"})

    @routes.get("/books")
    def books() -> Response:
        with world.database.transaction() as connection:
            return json_response(_books(connection, request.args.get("merchant_reference")))

    @routes.post("/webhooks")
    def send_webhook() -> Response:
        if not access.has_bearer_token(world.settings.api_key):
            return json_response({"error": "unauthorised"}, 401)
        partial = json_body().get("item")
        if not isinstance(partial, dict):
            return json_response({"error": "item is required"}, 400)
        item = notifications.complete(
            partial,
            psp_reference=ledger.new_psp_reference(),
            merchant_account=world.settings.merchant_account,
            at=clock.now(),
        )
        with world.database.transaction() as connection:
            outbox.queue(
                connection,
                item,
                hmac_key=world.settings.hmac_key,
                payment_reference=item["merchantReference"] or "",
            )
        world.delivery.wake()
        queued = {"event_code": item["eventCode"], "psp_reference": item["pspReference"]}
        return json_response({"status": "queued", **queued}, 202)

    return routes


def _books(connection: sqlite3.Connection, merchant_reference: str | None) -> dict[str, Any]:
    """Return everything; with a merchant reference only its payments, voids and webhooks."""
    return {
        "payments": _payments(connection, merchant_reference),
        "voids": _rows(
            connection,
            "SELECT payment_reference, psp_reference FROM modifications "
            "WHERE payment_psp_reference IS NULL AND payment_reference = coalesce(?, "
            "payment_reference) ORDER BY rowid",
            (merchant_reference,),
        ),
        "bookings": _rows(
            connection,
            "SELECT reference, payment_id, status, confirmation_id, confirmations, cancellations "
            "FROM bookings ORDER BY rowid",
        ),
        "mails": [
            {
                **row,
                "recipients": json.loads(row["recipients"]),
                "received_at": clock.utc_text(row["received_at"]),
            }
            for row in _rows(
                connection,
                "SELECT sender, recipients, message_id, subject, body, received_at "
                "FROM mails ORDER BY id",
            )
        ],
        "webhooks": _webhooks(connection, merchant_reference),
    }


def _payments(
    connection: sqlite3.Connection, merchant_reference: str | None
) -> list[dict[str, Any]]:
    """Return the payments with their modifications, oldest first."""
    payments = _rows(
        connection,
        "SELECT psp_reference, merchant_account, merchant_reference, currency, authorised, "
        "captured, cancelled, refunded, authorisations FROM payments "
        "WHERE merchant_reference = coalesce(?, merchant_reference) ORDER BY rowid",
        (merchant_reference,),
    )
    modifications: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(
        connection,
        "SELECT payment_psp_reference, psp_reference, kind, amount, status FROM modifications "
        "WHERE payment_reference = coalesce(?, payment_reference) ORDER BY rowid",
        (merchant_reference,),
    ):
        modifications.setdefault(row.pop("payment_psp_reference"), []).append(row)
    return [
        {**payment, "modifications": modifications.get(payment["psp_reference"], [])}
        for payment in payments
    ]


def _webhooks(
    connection: sqlite3.Connection, merchant_reference: str | None
) -> list[dict[str, Any]]:
    """Return the webhooks with their deliveries, oldest first; identical copies are one."""
    deliveries: dict[int, list[dict[str, Any]]] = {}
    for row in _rows(
        connection,
        "SELECT webhook_id, at, status FROM deliveries JOIN webhooks ON webhooks.id = webhook_id "
        "WHERE payment_reference = coalesce(?, payment_reference) ORDER BY deliveries.id",
        (merchant_reference,),
    ):
        entry = {"at": clock.utc_text(row["at"]), "status": row["status"]}
        deliveries.setdefault(row["webhook_id"], []).append(entry)
    webhooks: dict[int, dict[str, Any]] = {}
    for row in _rows(
        connection,
        "SELECT id, copy_of, event_code, psp_reference, state FROM webhooks "
        "WHERE payment_reference = coalesce(?, payment_reference) ORDER BY id",
        (merchant_reference,),
    ):
        first = webhooks.setdefault(
            row["copy_of"] or row["id"],
            {
                "event_code": row["event_code"],
                "psp_reference": row["psp_reference"],
                "deliveries": [],
                "state": row["state"],
            },
        )
        first["deliveries"] += deliveries.get(row["id"], [])
        if row["state"] != State.DELIVERED:
            first["state"] = row["state"]
    return list(webhooks.values())


def _rows(
    connection: sqlite3.Connection, query: str, values: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries."""
    return [dict(row) for row in connection.execute(query, values)]
