"""X-Request-ID: on every response, and on every log line of its request."""

import re

from flask import Flask, Response, g, request

from app.http.card_numbers import holds_card_number
from app.logs import request_id
from app.services.ports import NewId

_SANE = re.compile(r"[A-Za-z0-9._\-]{1,64}")


def name_request(given: str | None, new_id: NewId) -> str:
    """Return the caller's id if it sent a sane one, else a new one; log lines carry it from now on.

    Args:
        given: The request's X-Request-ID.
        new_id: Makes ids.
    """
    is_sane = given and _SANE.fullmatch(given) and not holds_card_number(given)
    name = given if given and is_sane else str(new_id())
    request_id.set(name)
    return name


def register_request_ids(flask_app: Flask, new_id: NewId) -> None:
    """Name every request that Flask serves."""

    @flask_app.before_request
    def begin() -> None:
        g.request_id = name_request(request.headers.get("X-Request-ID"), new_id)

    @flask_app.after_request
    def tell(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.get("request_id", "")
        return response
