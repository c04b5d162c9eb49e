"""The fraud check: says yes, except to an e-mail address that begins with ``fraud@``."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from simulator import access
from simulator.world import World, json_body, json_response

REQUIRED = ("payment_id", "merchant_account", "merchant_reference", "amount", "shopper")
REFUSED_PREFIX = "fraud@"


def blueprint(world: World) -> Blueprint:
    """Return the routes of the fraud check."""
    routes = Blueprint("fraud", __name__, url_prefix="/fraud")

    @routes.post("/checks")
    def check() -> Response:
        if not access.has_bearer_token(world.settings.api_key):
            return json_response({"error": "unauthorised"}, 401)
        body = json_body()
        missing = [name for name in REQUIRED if name not in body]
        if missing:
            return json_response({"error": f"missing: {', '.join(missing)}"}, 400)
        if _email(body).lower().startswith(REFUSED_PREFIX):
            return json_response({"decision": "refuse", "reason": "shopper is on a deny list"})
        return json_response({"decision": "accept"})

    return routes


def _email(body: Mapping[str, Any]) -> str:
    """Return the shopper's address, empty if there is none."""
    shopper = body["shopper"]
    email = shopper.get("email") if isinstance(shopper, Mapping) else None
    return email if isinstance(email, str) else ""
