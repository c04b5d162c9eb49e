"""Webhooks on disk: queued with the effect they tell of, delivered later."""

import sqlite3
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from simulator import clock
from simulator.ledger import LATE_EFFECTS
from simulator.notifications import signed_body


class State(StrEnum):
    """Where a webhook stands.

    SCHEDULED waits for its time; WAITING is sent as soon as nothing blocks the queue;
    FAILING was tried and not accepted. The others are final: DROPPED no longer applied when
    its time came, LOST was never meant to come, GIVEN_UP is older than the PSP's patience.
    """

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    FAILING = "failing"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    LOST = "lost"
    GIVEN_UP = "given_up"


_INSERT = (
    "INSERT INTO webhooks (copy_of, event_code, psp_reference, payment_reference, body, effect, "
    "state, queued_at, due_at) VALUES (:copy_of, :event_code, :psp_reference, "
    ":payment_reference, :body, :effect, :state, :queued_at, :due_at) RETURNING id"
)


def queue(
    connection: sqlite3.Connection,
    item: Mapping[str, Any],
    *,
    hmac_key: bytes,
    payment_reference: str,
    delays: Sequence[float] = (0.0,),
    effect: str | None = None,
) -> int:
    """Sign the item and store one webhook for each delay, identical byte for byte.

    Args:
        connection: The transaction that also holds what the webhook tells of.
        item: The unsigned item.
        hmac_key: Signs it now, so that retries carry the signature of today's key.
        payment_reference: The merchant reference of the payment, for looking it up.
        delays: Seconds from now; empty stores the webhook as lost.
        effect: A name in ``LATE_EFFECTS`` that happens when the webhook falls due.

    Returns:
        The id of the first.
    """
    now = clock.now()
    webhook = {
        "event_code": item["eventCode"],
        "psp_reference": item["pspReference"],
        "payment_reference": payment_reference,
        "body": signed_body(item, hmac_key),
        "effect": effect,
        "queued_at": now,
    }
    ids: list[int] = []
    for delay in delays or (0.0,):
        state = State.LOST if not delays else State.SCHEDULED if delay else State.WAITING
        copy_of = ids[0] if ids else None
        values = {**webhook, "copy_of": copy_of, "state": state, "due_at": now + delay}
        ids.append(connection.execute(_INSERT, values).fetchone()["id"])
    return ids[0]


def release_due(connection: sqlite3.Connection, now: float) -> None:
    """Let scheduled webhooks whose time has come happen, and make them ready to send."""
    due = connection.execute(
        "SELECT id, psp_reference, effect FROM webhooks WHERE state = ? AND due_at <= ? "
        "ORDER BY due_at, id",
        (State.SCHEDULED, now),
    ).fetchall()
    for row in due:
        applies = row["effect"] is None or LATE_EFFECTS[row["effect"]](
            connection, row["psp_reference"]
        )
        connection.execute(
            "UPDATE webhooks SET state = ? WHERE id = ?",
            (State.WAITING if applies else State.DROPPED, row["id"]),
        )


def sendable(connection: sqlite3.Connection, now: float, *, webhooks_max: int) -> list[int]:
    """Return the oldest ids to send now, those under way included, oldest first.

    While any webhook is failing only the oldest of those counts, and only when its retry is
    due: one refused webhook holds up all that come after it, as it does at the PSP.
    """
    head = connection.execute(
        "SELECT id, due_at FROM webhooks WHERE state = ? ORDER BY id LIMIT 1", (State.FAILING,)
    ).fetchone()
    if head is not None:
        return [head["id"]] if head["due_at"] <= now else []
    waiting = connection.execute(
        "SELECT id FROM webhooks WHERE state = ? ORDER BY id LIMIT ?",
        (State.WAITING, webhooks_max),
    )
    return [row["id"] for row in waiting]


def next_due_at(connection: sqlite3.Connection) -> float | None:
    """Return when the next scheduled webhook or retry falls due, None if there is none."""
    row = connection.execute(
        "SELECT min(due_at) AS due_at FROM (SELECT due_at FROM webhooks WHERE state = ? UNION ALL "
        "SELECT * FROM (SELECT due_at FROM webhooks WHERE state = ? ORDER BY id LIMIT 1))",
        (State.SCHEDULED, State.FAILING),
    ).fetchone()
    return None if row["due_at"] is None else float(row["due_at"])


def record_accepted(connection: sqlite3.Connection, webhook_id: int, at: float, code: int) -> None:
    """Note a delivery with a 2xx answer; if it was blocking, all the others go at once."""
    _record(connection, webhook_id, at, code)
    before = connection.execute(
        "SELECT state FROM webhooks WHERE id = ?", (webhook_id,)
    ).fetchone()["state"]
    _move(connection, webhook_id, State.DELIVERED)
    if before == State.FAILING:
        connection.execute(
            "UPDATE webhooks SET state = ? WHERE state = ?", (State.WAITING, State.FAILING)
        )


def record_failed(
    connection: sqlite3.Connection,
    webhook_id: int,
    at: float,
    code: int | None,
    *,
    retry_at: float | None,
) -> None:
    """Note a delivery that was not accepted; without ``retry_at`` it is given up."""
    _record(connection, webhook_id, at, code)
    _move(connection, webhook_id, State.GIVEN_UP if retry_at is None else State.FAILING)
    connection.execute(
        "UPDATE webhooks SET due_at = coalesce(?, due_at) WHERE id = ?", (retry_at, webhook_id)
    )


def _record(connection: sqlite3.Connection, webhook_id: int, at: float, code: int | None) -> None:
    """Append to the delivery log."""
    connection.execute(
        "INSERT INTO deliveries (webhook_id, at, status) VALUES (?, ?, ?)", (webhook_id, at, code)
    )


def _move(connection: sqlite3.Connection, webhook_id: int, state: State) -> None:
    """Set the state after one more attempt."""
    connection.execute(
        "UPDATE webhooks SET state = ?, attempts = attempts + 1 WHERE id = ?", (state, webhook_id)
    )


def was_attempted(connection: sqlite3.Connection, webhook_id: int) -> bool:
    """Return whether the webhook was posted at least once, accepted or not."""
    row = connection.execute(
        "SELECT 1 FROM deliveries WHERE webhook_id = ? LIMIT 1", (webhook_id,)
    ).fetchone()
    return row is not None
