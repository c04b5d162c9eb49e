"""The Idempotency-Key header, and the fingerprint of what is asked under it."""

import json

import pytest
from flask import Flask, request

from app.errors import IdempotencyKeyMissing
from app.http.idempotency import fingerprint, idempotency_key
from tests.support.builders import a_start_body

FLASK = Flask(__name__)


def key_of(header: str | None) -> str:
    headers = {} if header is None else {"Idempotency-Key": header}
    with FLASK.test_request_context("/payments", method="POST", headers=headers):
        return idempotency_key(request)


def fingerprint_of(body: str, path: str = "/payments", method: str = "POST") -> bytes:
    with FLASK.test_request_context(path, method=method):
        return fingerprint(request, json.loads(body))


@pytest.mark.parametrize("key", ["k", "key-1", "x" * 64, "!~", '"quoted"', "a:b/c|d"])
def test_one_to_64_visible_ascii_characters_are_a_key(key: str) -> None:
    assert key_of(key) == key


@pytest.mark.parametrize("key", [None, "", " ", "two words", "x" * 65, "schlüssel", "tab\there"])
def test_anything_else_is_no_key(key: str | None) -> None:
    with pytest.raises(IdempotencyKeyMissing):
        key_of(key)


def test_order_of_names_and_white_space_do_not_count() -> None:
    assert fingerprint_of('{"a": 1, "b": {"c": 2, "d": 3}}') == fingerprint_of(
        '{\n  "b": {"d":3,"c":2},  "a":1}'
    )


def test_spelling_of_a_character_does_not_count() -> None:
    assert fingerprint_of('{"a": "\\u00fc"}') == fingerprint_of('{"a": "ü"}')


@pytest.mark.parametrize(
    "other",
    ['{"a": 2}', '{"a": "1"}', '{"a": 1.0}', '{"a": true}', '{"A": 1}', '{"a": 1, "b": 1}', "[1]"],
)
def test_another_body_has_another_fingerprint(other: str) -> None:
    assert fingerprint_of(other) != fingerprint_of('{"a": 1}')


def test_order_of_a_list_counts() -> None:
    assert fingerprint_of("[1, 2]") != fingerprint_of("[2, 1]")


def test_path_and_method_count() -> None:
    body = json.dumps(a_start_body())
    asked = {
        fingerprint_of(body),
        fingerprint_of(body, path="/payments/1/captures"),
        fingerprint_of(body, method="PUT"),
    }

    assert len(asked) == 3
    assert all(len(digest) == 32 for digest in asked)
