"""``countersign webhook explain`` and ``refusals``: why a signature does not verify."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.keys import key_check_value
from tests.support.builders import (
    ACCOUNT,
    HMAC_KEY,
    OTHER_HMAC_KEY,
    PSP_REFERENCE,
    a_webhook,
    an_item,
    signed,
    unsigned_webhook,
)
from tests.support.commands import CommandLine, Ran
from tests.support.service import Service
from webhooks.signatures import sign

Explain = Callable[..., Ran]
EVENT_BODY = b'{"type": "recurring.token.created", "environment": "test", "data": {}}'
SIGNING_STRING = f"{PSP_REFERENCE}::{ACCOUNT}:ORDER-1001:12500:EUR:AUTHORISATION:true"


@pytest.fixture
def explain(countersign: CommandLine, tmp_path: Path, service: Service) -> Explain:
    """Run ``webhook explain`` on a file of the given content."""
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])

    def run(content: bytes, *arguments: str) -> Ran:
        file = tmp_path / "webhook.json"
        file.write_bytes(content)
        return countersign("webhook", "explain", str(file), *arguments)

    return run


def codes(ran: Ran) -> list[list[str]]:
    return [[finding["code"] for finding in item["findings"]] for item in ran.json["items"]]


def test_a_webhook_that_verifies_is_exit_code_0(explain: Explain) -> None:
    ran = explain(a_webhook())

    assert ran.code == 0
    assert ran.lines[0] == f"notificationItems[0] (AUTHORISATION {PSP_REFERENCE}) verifies"
    assert SIGNING_STRING in ran.lines[1]
    assert key_check_value(HMAC_KEY) in ran.lines[2]


def test_one_item_that_does_not_verify_is_exit_code_1(explain: Explain) -> None:
    ran = explain(unsigned_webhook(signed(an_item()), an_item("CAPTURE")), "--json")

    assert ran.code == 1
    assert codes(ran) == [["valid"], ["missing_signature"]]
    assert not ran.json["is_authentic"]


def test_a_finding_is_told_with_the_next_step(explain: Explain) -> None:
    ran = explain(a_webhook(key=OTHER_HMAC_KEY))

    assert ran.code == 1
    assert "other_accounts_key: " in ran.out
    assert "OtherECOM" in ran.out
    assert "    next: " in ran.out


def test_the_account_whose_keys_count_can_be_given(explain: Explain) -> None:
    assert explain(a_webhook(key=OTHER_HMAC_KEY), "--merchant", "OtherECOM").code == 0


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_one_bare_item_is_explained(explain: Explain, is_wrapped: bool) -> None:  # noqa: FBT001
    item = signed(an_item())

    ran = explain(json.dumps({"NotificationRequestItem": item} if is_wrapped else item).encode())

    assert ran.code == 0


@pytest.mark.parametrize(
    ("signature", "code", "finding"),
    [
        (sign(EVENT_BODY, HMAC_KEY), 0, "valid"),
        (sign(EVENT_BODY.replace(b" ", b""), HMAC_KEY), 1, "body_reserialised"),
        (sign(EVENT_BODY, bytes(32)), 1, "unexplained"),
    ],
)
def test_a_raw_body_is_explained_with_its_header(
    explain: Explain, signature: str, code: int, finding: str
) -> None:
    ran = explain(EVENT_BODY, "--header-signature", signature, "--json")

    assert (ran.code, codes(ran)) == (code, [[finding]])


def test_a_raw_body_without_its_header_misses_it(explain: Explain) -> None:
    assert codes(explain(EVENT_BODY, "--json")) == [["missing_signature"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"live": "false",\n "notificationItems": [}', "line 2, column 24"),
        (b"\xff", "is not UTF-8"),
        (b"", "line 1, column 1"),
        (b"[]", "not a JSON object"),
        (unsigned_webhook({**an_item(), "success": "maybe"}), "notificationItems[0]: success"),
        (b'{"pspReference": {}}', "pspReference"),
    ],
)
def test_a_file_that_can_not_be_read_is_told_with_the_place(
    explain: Explain, content: bytes, words: str
) -> None:
    ran = explain(content)

    assert ran.code == 1
    assert "malformed: " in ran.out
    assert words in ran.out


def test_values_can_not_move_the_cursor(explain: Explain) -> None:
    ran = explain(a_webhook(an_item(merchant_reference="\x1b[2J\u202e\n")))

    assert ran.code == 0
    assert r"\x1b[2J\u202e\n:12500" in ran.out


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "arguments",
    [(), ("no-such-file",), ("--refusal", "1", __file__), ("--refusal", "0")],
)
def test_wrong_usage_is_exit_code_2(countersign: CommandLine, arguments: tuple[str, ...]) -> None:
    ran = countersign("webhook", "explain", *arguments)

    assert (ran.code, ran.out) == (2, "")


def test_a_kept_refusal_is_explained(countersign: CommandLine, service: Service) -> None:
    service.post_webhook(unsigned_webhook(an_item()))
    [row] = service.rows("SELECT refusal_id FROM webhook_refusals")

    plain = countersign("webhook", "explain", "--refusal", str(row["refusal_id"]))
    report = countersign("webhook", "explain", "--refusal", str(row["refusal_id"]), "--json")

    assert (plain.code, report.code) == (1, 1)
    assert "missing_signature: " in plain.out
    assert codes(report) == [["missing_signature"]]
    assert report.json["items"][0]["signing_string"] == SIGNING_STRING
    assert report.json["claimed_event"] == f"AUTHORISATION {PSP_REFERENCE}"


def test_a_kept_refusal_of_an_older_release_was_not_diagnosed(
    countersign: CommandLine, service: Service
) -> None:
    service.post_webhook(b"not JSON")
    service.execute("UPDATE webhook_refusals SET diagnosis = NULL")
    [row] = service.rows("SELECT refusal_id FROM webhook_refusals")

    ran = countersign("webhook", "explain", "--refusal", str(row["refusal_id"]))

    assert ran.code == 1
    assert "not diagnosed" in ran.out


@pytest.mark.usefixtures("service")
def test_a_refusal_that_is_not_there_is_an_error(countersign: CommandLine) -> None:
    ran = countersign("webhook", "explain", "--refusal", "7")

    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err


def test_kept_refusals_are_listed_newest_first_with_what_was_found(
    countersign: CommandLine, service: Service
) -> None:
    service.post_webhook(unsigned_webhook(an_item()))
    service.post_webhook(unsigned_webhook(signed(an_item()), signed(an_item("CAPTURE"), bytes(32))))
    service.post_webhook(b"not JSON")

    listed = countersign("webhook", "refusals", "--json").json
    newest = countersign("webhook", "refusals", "--limit", "1")

    assert [row["finding"] for row in listed] == ["malformed", "unexplained", "missing_signature"]
    assert listed[1]["claimed_event"] == f"CAPTURE {PSP_REFERENCE}"
    assert len(newest.lines) == 2


@pytest.mark.usefixtures("service")
def test_no_kept_refusal_is_said_so(countersign: CommandLine) -> None:
    ran = countersign("webhook", "refusals")

    assert (ran.code, ran.out) == (0, "")
    assert "no refused webhook" in ran.err
