"""Bodies that do not tell their length beforehand are bounded like all others."""

from io import BytesIO

from flask import Flask, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import MalformedRequest


def register_body_limit(flask_app: Flask) -> None:
    """Refuse a chunked body over MAX_CONTENT_LENGTH, where the framework would cut it short."""

    @flask_app.before_request
    def bound_body() -> None:
        if request.content_length is not None or not request.environ.get("wsgi.input_terminated"):
            return
        limit = flask_app.config["MAX_CONTENT_LENGTH"]
        try:
            body = request.environ["wsgi.input"].read(limit + 1)
        except (OSError, ParseException):  # the server's words for a body that breaks off
            raise MalformedRequest from None
        if len(body) > limit:
            raise RequestEntityTooLarge
        request.environ["wsgi.input"] = BytesIO(body)
        request.environ["CONTENT_LENGTH"] = str(len(body))
