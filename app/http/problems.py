"""The one table from errors to HTTP, rendered as RFC 9457 problem details."""

import json
import logging
from http import HTTPStatus

from flask import Flask
from werkzeug import Response
from werkzeug.exceptions import HTTPException

from app import errors
from app.errors import (
    AccessError,
    CardNumberRefused,
    CountersignError,
    InvalidFields,
    StoreUnavailable,
)
from app.persistence.engine import is_unavailable

STATUS_BY_ERROR: dict[type[CountersignError], HTTPStatus] = {
    errors.RequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MalformedRequest: HTTPStatus.BAD_REQUEST,
    errors.IdempotencyKeyMissing: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedContentType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.AccessError: HTTPStatus.FORBIDDEN,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.StateError: HTTPStatus.CONFLICT,
    errors.WebhookRefused: HTTPStatus.UNAUTHORIZED,
    errors.MalformedNotification: HTTPStatus.BAD_REQUEST,
    errors.UnclearNotification: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.GatewayError: HTTPStatus.BAD_GATEWAY,
    errors.GatewayTimeout: HTTPStatus.GATEWAY_TIMEOUT,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    CountersignError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

#: Python has changed this status's name between releases; ours stays.
_CODES = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large"}

#: Seconds after which a retryable problem is worth another try.
RETRY_AFTER_SECONDS = 2

_log = logging.getLogger(__name__)


def status_for(error: CountersignError) -> HTTPStatus:
    """Return the status of the nearest ancestor in the table."""
    return next(
        STATUS_BY_ERROR[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS_BY_ERROR
    )


def title_of(error: type[CountersignError]) -> str:
    """Return the problem title of an error class: its docstring's first line."""
    return (error.__doc__ or "").strip().splitlines()[0]


def register_problem_handlers(flask_app: Flask) -> None:
    """Answer every error with a problem document; an unforeseen one says nothing of itself."""
    for kind in (CountersignError, HTTPException, Exception):
        flask_app.register_error_handler(kind, problem_of)


def problem_of(error: Exception) -> Response:
    """Render an error as its problem document."""
    if isinstance(error, CountersignError):
        return _of_ours(error)
    if isinstance(error, HTTPException):
        return _of_http(error)
    return _of_nobody(error)


def _of_ours(error: CountersignError) -> Response:
    status = status_for(error)
    response = _problem(
        status, error.code, title_of(type(error)), detail=str(error), members=_members(error)
    )
    if status is HTTPStatus.UNAUTHORIZED:
        scheme = "Bearer" if isinstance(error, AccessError) else "Basic"
        response.headers["WWW-Authenticate"] = f'{scheme} realm="countersign"'
    if error.retryable:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _of_http(error: HTTPException) -> Response:
    """What the web framework refuses: unknown paths, wrong methods, bodies that are too large."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    code = _CODES.get(status, status.name.lower())
    response = _problem(status, code, status.phrase)
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _of_nobody(error: Exception) -> Response:
    if is_unavailable(error):
        return _of_ours(StoreUnavailable())
    _log.error("unforeseen error", exc_info=error)
    return _of_ours(CountersignError())


def _members(error: CountersignError) -> dict[str, object]:
    if isinstance(error, InvalidFields):
        return {
            "errors": [{"field": path, "message": what} for path, what in error.problems.items()]
        }
    if isinstance(error, CardNumberRefused):
        return {"errors": [{"field": error.path, "message": "looks like a card number"}]}
    return {}


def _problem(
    status: HTTPStatus,
    code: str,
    title: str,
    *,
    detail: str = "",
    members: dict[str, object] | None = None,
) -> Response:
    document: dict[str, object] = {
        "type": f"urn:countersign:problem:{code}",
        "title": title,
        "status": status.value,
        "code": code,
    }
    if detail:
        document["detail"] = detail
    document |= members or {}
    return Response(json.dumps(document), status=status.value, mimetype="application/problem+json")
