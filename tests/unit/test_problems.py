"""Every error that we raise has a code, a title and a status, and is rendered as a problem."""

import inspect
import logging
import re
from collections.abc import Callable
from http import HTTPStatus

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import errors
from app.errors import CardNumberRefused, CountersignError, InvalidFields
from app.http.problems import STATUS_BY_ERROR, register_problem_handlers, status_for, title_of

ERRORS = [
    error
    for _name, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, CountersignError)
]

#: contract.md sections 3 and 4, and the tree in app/errors.py.
STATUS = {
    "CountersignError": 500,
    "RequestError": 422,
    "MalformedRequest": 400,
    "IdempotencyKeyMissing": 400,
    "UnsupportedContentType": 415,
    "InvalidFields": 422,
    "CardNumberRefused": 422,
    "IdempotencyKeyReused": 422,
    "Unauthenticated": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "PaymentNotFound": 404,
    "StateError": 409,
    "IllegalTransition": 409,
    "IdempotencyKeyInFlight": 409,
    "MerchantReferenceTaken": 409,
    "WebhookRefused": 401,
    "InvalidSignature": 401,
    "UnknownMerchantAccount": 401,
    "WrongBasicCredentials": 401,
    "MalformedNotification": 400,
    "UnclearNotification": 422,
    "GatewayError": 502,
    "GatewayTimeout": 504,
    "StoreUnavailable": 503,
}

every_error = pytest.mark.parametrize("error", ERRORS)


def an_error(error: type[CountersignError]) -> CountersignError:
    """An instance, whatever its constructor takes."""
    made = error.__new__(error)
    Exception.__init__(made, "what happened")
    if isinstance(made, InvalidFields):
        made.problems = {"amount.value": "is missing"}
    if isinstance(made, CardNumberRefused):
        made.path = "holder"
    return made


def answer_to(raised: Exception) -> TestResponse:
    def fail() -> str:
        raise raised

    return answer_of(fail)


def answer_of(view: Callable[[], str], *, path: str = "/", method: str = "GET") -> TestResponse:
    flask_app = Flask(__name__)
    register_problem_handlers(flask_app)
    flask_app.get("/")(view)
    return flask_app.test_client().open(path, method=method)


@every_error
def test_every_error_defines_a_code_of_its_own(error: type[CountersignError]) -> None:
    assert "code" in vars(error)
    assert [other for other in ERRORS if other.code == error.code] == [error]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)


@every_error
def test_every_error_has_a_sentence_for_a_title(error: type[CountersignError]) -> None:
    title = title_of(error)

    assert len(title) > 10
    assert title[0].isupper()
    assert title.endswith(".")


@every_error
def test_every_error_has_a_status(error: type[CountersignError]) -> None:
    assert status_for(an_error(error)).value >= 400


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_status_is_the_documented_one(name: str, status: int) -> None:
    assert status_for(an_error(getattr(errors, name))) == status


@every_error
def test_every_error_is_rendered_as_a_problem(error: type[CountersignError]) -> None:
    response = answer_to(an_error(error))

    assert response.mimetype == "application/problem+json"
    assert response.status_code == status_for(an_error(error))
    assert response.json is not None
    assert response.json["code"] == error.code
    assert response.json["title"] == title_of(error)
    assert response.json["status"] == response.status_code
    assert response.json["detail"] == "what happened"


@every_error
def test_retry_after_is_sent_exactly_when_a_retry_may_help(error: type[CountersignError]) -> None:
    response = answer_to(an_error(error))

    assert ("Retry-After" in response.headers) is error.retryable


def test_bad_fields_are_listed() -> None:
    response = answer_to(InvalidFields({"amount.value": "is missing", "extra": "is unknown"}))

    assert response.json is not None
    assert response.json["errors"] == [
        {"field": "amount.value", "message": "is missing"},
        {"field": "extra", "message": "is unknown"},
    ]


def test_card_number_names_its_field() -> None:
    response = answer_to(CardNumberRefused("payment_method.holder_name"))

    assert response.json is not None
    assert [one["field"] for one in response.json["errors"]] == ["payment_method.holder_name"]


def test_unforeseen_error_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        response = answer_to(RuntimeError("the password is hunter2"))

    assert response.status_code == 500
    assert response.json is not None
    assert response.json["code"] == "internal_error"
    assert "hunter2" not in response.get_data(as_text=True)


def test_unknown_path_is_a_problem() -> None:
    response = answer_of(lambda: "", path="/nowhere")

    assert response.mimetype == "application/problem+json"
    assert response.json is not None
    assert (response.status_code, response.json["code"]) == (404, "not_found")


def test_wrong_method_is_a_problem_that_names_the_right_ones() -> None:
    response = answer_of(lambda: "", method="DELETE")

    assert (response.status_code, response.mimetype) == (405, "application/problem+json")
    assert "GET" in response.headers["Allow"]


def test_missing_api_key_is_challenged_for_one() -> None:
    response = answer_to(errors.Unauthenticated())

    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def test_wrong_basic_credentials_are_challenged_for_basic_ones() -> None:
    response = answer_to(errors.WrongBasicCredentials())

    assert response.headers["WWW-Authenticate"].startswith("Basic ")


def test_table_names_only_errors_of_the_tree() -> None:
    assert set(STATUS_BY_ERROR) <= set(ERRORS)
    assert all(isinstance(status, HTTPStatus) for status in STATUS_BY_ERROR.values())
