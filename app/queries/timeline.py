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

#: Deliveries of each webhook that are told one by one; the rest are only counted. A delivery that
#: was captured can be sent again for ever.
DELIVERIES_MAX = 20

#: The webhooks that this payment's events name as their cause, and those that carry its own PSP
#: reference, applied or not.
_WEBHOOKS = """
    SELECT CAST(substr(cause, 9) AS uuid) AS guid FROM payment_events
     WHERE payment_id = :payment_id AND cause LIKE 'webhook:%'
    UNION
    SELECT i.guid FROM webhook_inbox i JOIN payments p USING (merchant_account, psp_reference)
     WHERE p.payment_id = :payment_id
"""

_DELIVERIES = text(
    f"""
    WITH webhooks AS ({_WEBHOOKS}), delivered AS (
        SELECT guid, received_at AS at FROM webhook_inbox JOIN webhooks USING (guid)
        UNION ALL
        SELECT guid, received_at FROM webhook_redeliveries JOIN webhooks USING (guid)
    ), numbered AS (
        SELECT guid, at, at - lag(at) OVER past AS gap, row_number() OVER past AS delivery,
               count(*) OVER (PARTITION BY guid) AS deliveries,
               max(at) OVER (PARTITION BY guid) AS last_delivered_at
          FROM delivered WINDOW past AS (PARTITION BY guid ORDER BY at)
    )
    SELECT n.*, i.event_code, i.success, i.psp_reference, w.state AS waits_as, w.error
      FROM numbered n JOIN webhook_inbox i USING (guid) LEFT JOIN inbox_work w USING (guid)
     WHERE n.delivery <= :deliveries_max ORDER BY guid
    """  # noqa: S608  # a constant
)

#: What was refused under the name of one of them, before it was accepted or after.
_REFUSALS = text(
    f"""
    WITH webhooks AS ({_WEBHOOKS})
    SELECT guid, refused.at, refused.code, i.event_code, i.success, i.psp_reference
      FROM webhooks JOIN webhook_inbox i USING (guid) CROSS JOIN LATERAL (
            SELECT received_at AS at, code FROM webhook_refusals WHERE claimed_guid = i.guid
             ORDER BY received_at LIMIT :deliveries_max) AS refused
     ORDER BY guid
    """  # noqa: S608  # the same
)


def timeline(connection: Connection, payment_id: UUID) -> Json:
    """Return a payment's events and the deliveries of its webhooks, oldest first.

    Returns:
        ``{"items": [{"at", "kind", "title", "data"}]}``; empty for an unknown payment.
    """
    of_payment = {"payment_id": payment_id, "deliveries_max": DELIVERIES_MAX}
    # A webhook stands before the events that it caused, also where both carry the same instant.
    items = [
        ((row["at"], 0, 0), _refusal(row))
        for row in connection.execute(_REFUSALS, of_payment).mappings()
    ]
    items += [
        ((row["at"], 1, row["delivery"]), _delivery(row))
        for row in connection.execute(_DELIVERIES, of_payment).mappings()
    ]
    items += [
        ((row["at"], 2, row["seq"]), _event(row))
        for row in connection.execute(_EVENTS, of_payment).mappings()
    ]
    return {"items": [item for _place, item in sorted(items, key=lambda pair: pair[0])]}


def _delivery(row: RowMapping) -> Json:
    """Tell one delivery; the first one also tells how often the webhook came, and if it waits."""
    data = {"guid": str(row["guid"]), "psp_reference": row["psp_reference"]}
    if row["delivery"] > 1:
        return {
            "at": instant(row["at"]),
            "kind": "webhook_redelivered",
            "title": f"{_webhook(row)} delivered again",
            "data": data
            | {
                "delivery": row["delivery"],
                "deliveries": row["deliveries"],
                "seconds_since_previous": int(row["gap"].total_seconds()),
            },
        }
    return {
        "at": instant(row["at"]),
        "kind": "webhook_received",
        "title": f"{_webhook(row)} received{_often(row['deliveries'])}{_waits(row['waits_as'])}",
        "data": data
        | {
            "deliveries": row["deliveries"],
            "last_delivered_at": instant(row["last_delivered_at"]),
            "state": row["waits_as"] or "done",
            "error": row["error"],
        },
    }


def _refusal(row: RowMapping) -> Json:
    """Tell a refusal that claimed to be this webhook: anybody may have sent it."""
    return {
        "at": instant(row["at"]),
        "kind": "webhook_refused",
        "title": f"{_webhook(row)} refused: {_words(row['code'])} (claimed, not verified)",
        "data": {
            "claimed_guid": str(row["guid"]),
            "claimed_psp_reference": row["psp_reference"],
            "code": row["code"],
        },
    }


def _webhook(row: RowMapping) -> str:
    return f"Webhook {row['event_code']} {'true' if row['success'] else 'false'}"


def _often(deliveries: int) -> str:
    return f", {deliveries} times in all" if deliveries > 1 else ""


def _waits(state: str | None) -> str:
    return f", not applied: {state}" if state else ""


def _event(row: RowMapping) -> Json:
    return {
        "at": instant(row["at"]),
        "kind": row["kind"],
        "title": _title(row["kind"], row["data"]) + _by_whom(row["data"]),
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
            to = f" to {data['to']}" if "to" in data else ""
            return f"{_words(data.get('note', kind)).capitalize()}{to}"


def _by_whom(data: Mapping[str, Any]) -> str:
    """Tell who did it by hand, and why."""
    return f", by {data['operator']}: {data['reason']}" if "operator" in data else ""


def _step(data: Mapping[str, Any]) -> str:
    undoing = "Undo of " if data["direction"] == "undo" else ""
    attempt = f" (attempt {data['attempt']})" if data["attempt"] > 1 else ""
    return f"{undoing}{_words(data['step'])}{attempt}".capitalize()


def _words(name: object) -> str:
    return str(name).replace("_", " ")
