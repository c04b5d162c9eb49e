"""The booking service: confirm a booking, cancel a booking."""

import json
import secrets
import sqlite3
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from simulator import access, idempotency
from simulator.idempotency import Answer
from simulator.world import World, held_response, idempotency_key, json_body, json_response

SCOPE = "booking"
UNANSWERED_SECONDS = 60.0  #: Longer than any caller's patience.
FLAKY_TIMES = 2  #: So many confirmations per idempotency key meet an outage.

REFUSED_PREFIX = "FAIL-"
FLAKY_PREFIX = "FLAKY-"
HANGING_PREFIX = "HANG-"


def blueprint(world: World) -> Blueprint:
    """Return the routes of the booking service."""
    routes = Blueprint("booking", __name__, url_prefix="/bookings")

    @routes.before_request
    def require_token() -> Response | None:
        is_known = access.has_bearer_token(world.settings.api_key)
        return None if is_known else json_response({"error": "unauthorised"}, 401)

    @routes.post("/confirmations")
    def confirm() -> Response:
        booking = _booking(json_body())
        if booking is None:
            return json_response({"error": "reference and payment_id are required"}, 400)
        if booking[0].startswith(HANGING_PREFIX):
            with world.database.transaction() as connection:
                _set_status(connection, booking, "unanswered")
            return held_response(UNANSWERED_SECONDS)
        return _confirm_once(world, idempotency_key(), booking)

    @routes.post("/cancellations")
    def cancel() -> Response:
        booking = _booking(json_body())
        if booking is None:
            return json_response({"error": "reference and payment_id are required"}, 400)
        with world.database.transaction() as connection:
            _cancel(connection, booking)
        return json_response({"status": "cancelled"})

    return routes


def _booking(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the booking reference and payment id that together name a booking."""
    reference, payment_id = body.get("reference"), body.get("payment_id")
    if not (isinstance(reference, str) and reference):
        return None
    return (reference, payment_id) if isinstance(payment_id, str) and payment_id else None


def _confirm_once(world: World, key: str | None, booking: tuple[str, str]) -> Response:
    """Confirm or refuse at most once per idempotency key."""
    with world.database.transaction() as connection:
        answer = idempotency.first_response(connection, SCOPE, key)
        if answer is None:
            if booking[0].startswith(FLAKY_PREFIX) and idempotency.meets_outage(
                connection, SCOPE, key or f"reference {booking[0]}", times=FLAKY_TIMES
            ):
                return json_response({"error": "temporarily unavailable"}, 503)
            answer = _confirm(connection, booking)
            idempotency.remember(connection, SCOPE, key, answer)
    return json_response(answer.body, answer.status)


def _confirm(connection: sqlite3.Connection, booking: tuple[str, str]) -> Answer:
    """Write the confirmation, or the refusal."""
    row = connection.execute(
        "SELECT status FROM bookings WHERE reference = ? AND payment_id = ?", booking
    ).fetchone()
    if booking[0].startswith(REFUSED_PREFIX):
        if row is None:
            _set_status(connection, booking, "refused")
        return _refusal("no longer available")
    if row is not None and row["status"] == "cancelled":
        return _refusal("the booking was cancelled")
    _set_status(connection, booking, "confirmed")
    confirmed = connection.execute(
        "UPDATE bookings SET confirmations = confirmations + 1, "
        "confirmation_id = CASE confirmation_id WHEN '' THEN ? ELSE confirmation_id END "
        "WHERE reference = ? AND payment_id = ? RETURNING confirmation_id",
        (f"CNF-{secrets.token_hex(6).upper()}", *booking),
    ).fetchone()
    body = {
        "status": "confirmed",
        "reference": booking[0],
        "confirmation_id": confirmed["confirmation_id"],
    }
    return Answer(200, json.dumps(body))


def _refusal(reason: str) -> Answer:
    """Return the answer of a booking that can't be confirmed."""
    return Answer(409, json.dumps({"status": "refused", "reason": reason}))


def _cancel(connection: sqlite3.Connection, booking: tuple[str, str]) -> None:
    """Write the cancellation, also of a booking never seen; a second one changes nothing."""
    connection.execute(
        "INSERT INTO bookings (reference, payment_id, status, cancellations) "
        "VALUES (?, ?, 'cancelled', 1) ON CONFLICT DO UPDATE "
        "SET status = 'cancelled', cancellations = cancellations + 1 WHERE status != 'cancelled'",
        booking,
    )


def _set_status(connection: sqlite3.Connection, booking: tuple[str, str], status: str) -> None:
    """Write the booking's status; a cancelled booking stays cancelled."""
    connection.execute(
        "INSERT INTO bookings (reference, payment_id, status) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET status = excluded.status WHERE status != 'cancelled'",
        (*booking, status),
    )
