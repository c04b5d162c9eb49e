"""What every part of the stand-in shares, made once at start."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Response, request

from simulator.database import Database
from simulator.delivery import Delivery
from simulator.idempotency import KeysInProgress
from simulator.settings import Settings

#: WSGI environment key by which a view asks the server to hold the request for so many
#: seconds and then drop the connection, instead of sending the view's answer.
HOLD_SECONDS = "simulator.hold_seconds"


@dataclass(frozen=True, slots=True)
class World:
    """Settings, database and delivery threads of one running stand-in."""

    settings: Settings
    database: Database
    delivery: Delivery
    keys: KeysInProgress = field(default_factory=KeysInProgress)


def json_body() -> Mapping[str, Any]:
    """Return the request's JSON object; empty for anything else, so that fields are missing."""
    body = request.get_json(force=True, silent=True)
    return body if isinstance(body, dict) else {}


def json_response(body: Mapping[str, Any] | Sequence[Any] | str, status: int = 200) -> Response:
    """Return a JSON response; a string is sent as the JSON text it already is."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Response(text, status, mimetype="application/json")


def held_response(seconds: float) -> Response:
    """Ask the server to hold the request and never answer it."""
    request.environ[HOLD_SECONDS] = seconds
    return Response(status=504)


def idempotency_key() -> str | None:
    """Return the request's key, None if it has none."""
    return request.headers.get("Idempotency-Key") or None
