"""X-Request-ID: on every response, and on every log line of its request."""

import re

import structlog
from flask import Flask, Response, g, request

from app.http.card_numbers import holds_card_number
from app.services.ports import NewId

_SANE = re.compile(r"[A-Za-z0-9._\-]{1,64}")


def register_request_ids(flask_app: Flask, new_id: NewId) -> None:
    """Keep the caller's id if it sent a sane one, else make one."""

    @flask_app.before_request
    def name_request() -> None:
        given = request.headers.get("X-Request-ID", "")
        is_sane = _SANE.fullmatch(given) and not holds_card_number(given)
        g.request_id = given if is_sane else str(new_id())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @flask_app.after_request
    def tell_request(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.get("request_id", "")
        return response
