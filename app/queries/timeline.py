"""Everything that happened to a payment, on one page, in order."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from app.queries.payments import Json, instant

_EVENTS = text(
    "SELECT seq, kind, cause, data, at FROM payment_events WHERE payment_id = :payment_id"
    " ORDER BY seq"
)

#: Deliveries of the webhooks that this payment's events name as their cause.
_DELIVERIES = text(
    """
    WITH causes AS (
        SELECT DISTINCT CAST(substr(cause, 9) AS uuid) AS guid FROM payment_events
         WHERE payment_id = :payment_id AND cause LIKE 'webhook:%'
    )
    SELECT i.guid, i.event_code, i.success, i.psp_reference, i.received_at AS at, FALSE AS is_again
      FROM webhook_inbox i JOIN causes USING (guid)
    UNION ALL
    SELECT i.guid, i.event_code, i.success, i.psp_reference, r.received_at, TRUE
      FROM webhook_redeliveries r JOIN causes USING (guid) JOIN webhook_inbox i USING (guid)
    """
)


def timeline(connection: Connection, payment_id: UUID) -> Json:
    """Return a payment's events and the deliveries of its webhooks, oldest first.

    Returns:
        ``{"items": [{"at", "kind", "title", "data"}]}``; empty for an unknown payment.
    """
    of_payment = {"payment_id": payment_id}
    # A webhook stands before the events that it caused, also where both carry the same instant.
    items = [
        ((row["at"], 0, 0), _delivery(row))
        for row in connection.execute(_DELIVERIES, of_payment).mappings()
    ]
    items += [
        ((row["at"], 1, row["seq"]), _event(row))
        for row in connection.execute(_EVENTS, of_payment).mappings()
    ]
    return {"items": [item for _place, item in sorted(items, key=lambda pair: pair[0])]}


def _delivery(row: RowMapping) -> Json:
    outcome = "true" if row["success"] else "false"
    again = " delivered again" if row["is_again"] else " received"
    return {
        "at": instant(row["at"]),
        "kind": "webhook_redelivered" if row["is_again"] else "webhook_received",
        "title": f"Webhook {row['event_code']} {outcome}{again}",
        "data": {"guid": str(row["guid"]), "psp_reference": row["psp_reference"]},
    }


def _event(row: RowMapping) -> Json:
    return {
        "at": instant(row["at"]),
        "kind": row["kind"],
        "title": _title(row["kind"], row["data"]),
        "data": {**row["data"], "cause": row["cause"], "seq": row["seq"]},
    }


def _title(kind: str, data: Mapping[str, Any]) -> str:  # noqa: PLR0911  # one line a kind
    match kind:
        case "payment_started":
            return f"Payment {data['merchant_reference']} started"
        case "payment_reported":
            return "The PSP reports a payment that was not started here"
        case "fact_recorded":
            return f"The PSP says: {_words(data['kind'])} {data['amount_minor']}"
        case "flow_moved":
            return f"{_words(data['event']).capitalize()}: {data['from']} → {data['to']}"
        case "transition_refused":
            return f"Refused: {_words(data['event'])} while in {data['state']}"
        case "step_answered":
            return f"{_step(data)}: {_words(data['status'])}"
        case "step_failed":
            return f"{_step(data)}: {_words(data['error'])}"
        case _:
            return _words(data.get("note", kind)).capitalize()


def _step(data: Mapping[str, Any]) -> str:
    undoing = "Undo of " if data["direction"] == "undo" else ""
    attempt = f" (attempt {data['attempt']})" if data["attempt"] > 1 else ""
    return f"{undoing}{_words(data['step'])}{attempt}".capitalize()


def _words(name: object) -> str:
    return str(name).replace("_", " ")
