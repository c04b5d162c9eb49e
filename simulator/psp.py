"""The Checkout API: payments, modifications, idempotency.

One request is one transaction: the books, the queued webhook and the first response under the
idempotency key commit together. Networks are waited for afterwards.
"""

import json
import sqlite3
from collections.abc import Callable

from flask import Blueprint, Response

from simulator import access, idempotency
from simulator.authorisations import authorise
from simulator.idempotency import Answer, KeyInProgress, Outcome
from simulator.modifications import cancel_by_reference, modify
from simulator.orders import CheckoutRefusal
from simulator.triggers import Reply
from simulator.world import World, held_response, idempotency_key, json_body, json_response

SCOPE = "psp"  #: One scope for the whole company account, whatever the endpoint.
KEY_CHARACTERS_MAX = 64
UNANSWERED_SECONDS = 30.0  #: Longer than any caller's patience.
EARLY_SECONDS = 12.0  #: A delivery attempt and a little more.

UNAUTHORISED = CheckoutRefusal(401, "000", "HTTP Status Response - Unauthorized", "security")
LONG_KEY = CheckoutRefusal(422, "702", "Header 'Idempotency-Key' is longer than 64 characters.")
IN_PROGRESS = CheckoutRefusal(422, "704", "Request already processed or in progress")


Process = Callable[[sqlite3.Connection], Outcome]


def blueprint(world: World) -> Blueprint:
    """Return the routes of the Checkout API."""
    routes = Blueprint("psp", __name__, url_prefix="/v72")

    @routes.before_request
    def require_api_key() -> Response | None:
        is_known = access.has_api_key(world.settings.api_key)
        return None if is_known else json_response(UNAUTHORISED.to_json(), UNAUTHORISED.status)

    @routes.post("/payments")
    def post_payments() -> Response:
        key, body = idempotency_key(), json_body()
        return _serve(world, key, lambda connection: authorise(world, connection, body, key))

    @routes.post("/payments/<psp>/<any(captures, cancels, refunds, reversals):operation>")
    def post_modifications(psp: str, operation: str) -> Response:
        body = json_body()
        return _serve(
            world,
            idempotency_key(),
            lambda connection: modify(world, connection, body, psp, operation),
        )

    @routes.post("/cancels")
    def post_cancels() -> Response:
        body = json_body()
        return _serve(
            world,
            idempotency_key(),
            lambda connection: cancel_by_reference(world, connection, body),
        )

    return routes


def _serve(world: World, key: str | None, process: Process) -> Response:
    """Process a request at most once per idempotency key, and answer it."""
    if key is not None and len(key) > KEY_CHARACTERS_MAX:
        return json_response(LONG_KEY.to_json(), LONG_KEY.status)
    try:
        with world.keys.hold(key):
            outcome = _process_once(world, key, process)
            world.delivery.wake()
            if outcome.reply is Reply.AFTER_WEBHOOK and outcome.webhook_id is not None:
                world.delivery.wait_until_attempted(outcome.webhook_id, EARLY_SECONDS)
    except KeyInProgress:
        response = json_response(IN_PROGRESS.to_json(), IN_PROGRESS.status)
        response.headers["transient-error"] = "true"
        return response
    if outcome.reply is Reply.NEVER:
        return held_response(UNANSWERED_SECONDS)
    response = json_response(outcome.answer.body, outcome.answer.status)
    if key is not None and outcome.is_processed:
        response.headers["Idempotency-Key"] = key
    return response


def _process_once(world: World, key: str | None, process: Process) -> Outcome:
    """Return the first response of a known key, else process and keep the answer."""
    with world.database.transaction() as connection:
        first = idempotency.first_response(connection, SCOPE, key)
        if first is not None:
            return Outcome(first)
        try:
            outcome = process(connection)
        except CheckoutRefusal as refusal:
            outcome = Outcome(Answer(refusal.status, json.dumps(refusal.to_json())))
        if outcome.is_processed:
            idempotency.remember(connection, SCOPE, key, outcome.answer)
        return outcome
