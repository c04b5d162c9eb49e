"""What was refused is kept for operators, without trust and within bounds; problems look alike."""

import json
from collections.abc import Mapping

import pytest

from app.domain.keys import key_check_value
from app.errors import InvalidSignature
from app.persistence.tables import Scheme
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
from tests.support.service import Row, Service
from webhooks.diagnosis.claims import Claim
from webhooks.diagnosis.evidence import EvidenceRoom
from webhooks.diagnosis.trials import Evidence
from webhooks.notifications import parse
from webhooks.refusal_budget import KEPT_A_MINUTE_MAX, KEPT_AN_ADDRESS_A_MINUTE_MAX
from webhooks.refusals import BODY_BYTES_MAX, ROWS_MAX, TRIM_EVERY, Refusals
from webhooks.signatures import sign

STRANGER, PSP = "203.0.113.7", "198.51.100.1"
PLATFORM = "/webhooks/adyen/platform"


def kept(service: Service) -> Row:
    """The one refusal that is kept."""
    [row] = service.rows("SELECT * FROM webhook_refusals")
    return row


def kept_codes(service: Service) -> list[list[str]]:
    """The codes of its findings, item by item."""
    return [[one["code"] for one in item["findings"]] for item in kept(service)["diagnosis"]]


def post_from(service: Service, address: str, body: bytes) -> int:
    client = service.client.application.test_client()
    return client.post(
        "/webhooks/adyen", data=body, environ_overrides={"REMOTE_ADDR": address}
    ).status_code


def test_a_refusal_is_kept_with_its_reason_and_its_claim(service: Service) -> None:
    body = unsigned_webhook(an_item())
    [notification] = parse(body)

    service.post_webhook(body)

    row = kept(service)
    assert row["code"] == "invalid_signature"
    assert row["scheme"] == Scheme.ITEM
    assert row["claimed_account"] == ACCOUNT
    assert row["claimed_guid"] == notification.guid
    assert row["claimed_event"] == f"AUTHORISATION {PSP_REFERENCE}"
    assert row["remote_address"] == "127.0.0.1"
    assert bytes(row["body"]) == body


def test_a_refused_body_with_a_signature_in_the_header_is_kept_as_such(service: Service) -> None:
    body = b'{"type": "merchant.created", "data": {"merchantAccount": "CountersignECOM"}}'

    response = service.client.post(
        PLATFORM, data=body, headers={"HmacSignature": sign(body, bytes(32))}
    )

    row = kept(service)
    assert response.status_code == 401
    assert row["scheme"] == Scheme.HEADER
    assert (row["claimed_account"], row["claimed_event"]) == (ACCOUNT, "merchant.created")
    assert row["claimed_guid"] is not None
    assert kept_codes(service) == [["unexplained"]]


def test_of_several_items_the_first_that_is_forged_is_the_claim(service: Service) -> None:
    service.post_webhook(unsigned_webhook(signed(an_item()), an_item("CAPTURE")))

    assert kept(service)["claimed_event"] == f"CAPTURE {PSP_REFERENCE}"
    assert kept_codes(service) == [["valid"], ["missing_signature"]]


def test_every_refusal_of_the_same_event_is_kept(service: Service) -> None:
    for _delivery in range(3):
        service.post_webhook(unsigned_webhook(an_item()))

    [row] = service.rows(
        "SELECT count(*) AS n FROM webhook_refusals GROUP BY claimed_account, claimed_guid"
    )
    assert row["n"] == 3


# The diagnosis


def test_a_refused_request_is_diagnosed_by_what_is_known(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])

    service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))

    [item] = kept(service)["diagnosis"]
    [finding] = item["findings"]
    assert item["where"] == "notificationItems[0]"
    assert finding["code"] == "other_accounts_key"
    assert "OtherECOM" in finding["sentence"]
    assert finding["next_step"]


def test_an_expired_key_is_diagnosed(service: Service) -> None:
    accounts = service.container.accounts
    accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)
    accounts.expire_key(ACCOUNT, key_check_value(HMAC_KEY), at=service.clock.now())

    service.post_webhook(a_webhook(key=HMAC_KEY))

    assert kept_codes(service) == [["expired_key"]]


def test_wrong_basic_credentials_are_diagnosed(service: Service) -> None:
    service.container.accounts.add("BasicECOM", [HMAC_KEY], basic=("psp", "secret"))

    service.post_webhook(a_webhook(an_item(merchant_account="BasicECOM")))

    assert kept_codes(service) == [["wrong_basic", "valid"]]


def test_a_field_that_differs_from_what_is_stored_is_diagnosed(service: Service) -> None:
    service.deliver(an_item(success=False))
    tampered: Mapping[str, object] = {**signed(an_item(success=False)), "success": "true"}

    service.post_webhook(unsigned_webhook(tampered))

    [item] = kept(service)["diagnosis"]
    assert [one["code"] for one in item["findings"]] == ["altered_field"]
    assert "altered: success." in item["findings"][0]["sentence"]


def test_a_live_webhook_for_a_test_key_is_diagnosed(service: Service) -> None:
    service.deliver(an_item())
    live = a_webhook(an_item(psp_reference="8816178914079739"), key=bytes(32)).replace(
        b'"live": "false"', b'"live": "true"'
    )

    service.post_webhook(live)

    assert kept_codes(service) == [["test_key_on_live"]]


def test_an_account_that_is_not_registered_is_diagnosed(service: Service) -> None:
    service.post_webhook(a_webhook(an_item(merchant_account="NobodyECOM"), key=bytes(32)))

    assert kept_codes(service) == [["unknown_account"]]


def test_a_key_that_no_master_key_opens_does_not_stand_in_the_way(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])
    service.execute(
        "UPDATE hmac_keys SET secret_encrypted = 'x' WHERE merchant_account <> :own", own=ACCOUNT
    )

    service.post_webhook(a_webhook(key=bytes(32)))

    assert kept_codes(service) == [["unexplained"]]


class _CountingEvidence(EvidenceRoom):
    """Real evidence that counts how often it is asked for, or breaks."""

    asked = 0
    is_broken = False

    def of(self, claim: Claim) -> Evidence:
        self.asked += 1
        if self.is_broken:
            raise RuntimeError
        return super().of(claim)


@pytest.fixture
def counting(service: Service) -> _CountingEvidence:
    wired = service.container
    return _CountingEvidence(wired.engine, wired.vault, wired.clock)


def keep(service: Service, evidence: EvidenceRoom, *, times: int) -> None:
    refusals = Refusals(service.container.engine, service.clock, evidence)
    for _time in range(times):
        refusals.keep(
            InvalidSignature("forged"),
            body=unsigned_webhook(an_item()),
            scheme=Scheme.ITEM,
            header_signature=None,
            remote_address=STRANGER,
        )


def test_only_what_is_kept_is_diagnosed(service: Service, counting: _CountingEvidence) -> None:
    keep(service, counting, times=5 * KEPT_AN_ADDRESS_A_MINUTE_MAX)

    assert counting.asked == service.count("webhook_refusals")


def test_a_refusal_that_can_not_be_diagnosed_is_kept_without(
    service: Service, counting: _CountingEvidence
) -> None:
    counting.is_broken = True

    keep(service, counting, times=1)

    [row] = service.rows("SELECT diagnosis IS NULL AS is_bare FROM webhook_refusals")
    assert row["is_bare"]


def test_a_refusal_that_can_not_be_kept_is_refused_all_the_same(service: Service) -> None:
    service.execute("DROP TABLE webhook_refusals")

    response = service.post_webhook(unsigned_webhook(an_item()))

    assert response.status_code == 401


# What strangers send


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"\x00",
        b"[" * 30_000,
        b'{"notificationItems": ' + b"9" * 5000 + b"}",
        b'{"notificationItems": [{"NotificationRequestItem": {"merchantAccountCode": 1e400}}]}',
        b'{"type": "\\ud800", "eventId": "\\u0000", "data": {"merchantAccount": "\\u0000\\ud800"}}',
        unsigned_webhook({**an_item(), "reason": "\x00 and \ud800"}),
        unsigned_webhook({**an_item(), "merchantReference": "\x00"}),
        unsigned_webhook({**an_item(), "eventCode": "\ud800" * 5000}),
        unsigned_webhook({**an_item(), "amount": {"value": 10**400, "currency": "EUR"}}),
        json.dumps({"notificationItems": [[[[]]]]}).encode(),
    ],
)
@pytest.mark.parametrize("path", ["/webhooks/adyen", PLATFORM])
def test_whatever_strangers_send_is_kept_and_diagnosed(
    service: Service, path: str, body: bytes
) -> None:
    response = service.client.post(path, data=body, headers={"HmacSignature": "\xff"})

    assert response.status_code in {400, 401}
    assert bytes(kept(service)["body"]) == body[:BODY_BYTES_MAX]
    assert kept_codes(service)


@pytest.mark.parametrize("account", ["\x00", "\ud800", "x" * 500, "ß"])
def test_an_account_that_can_not_be_stored_is_refused_all_the_same(
    service: Service, account: str
) -> None:
    response = service.post_webhook(unsigned_webhook({**an_item(), "merchantAccountCode": account}))

    assert response.status_code in {400, 401}
    assert service.count("webhook_refusals") == 1


def test_a_kept_body_is_cut(service: Service) -> None:
    service.post_webhook(b"x" * 100_000)

    assert len(kept(service)["body"]) == BODY_BYTES_MAX


@pytest.mark.parametrize("field", ["reason", "merchantAccountCode", "eventCode"])
def test_no_card_number_is_kept(service: Service, field: str) -> None:
    service.post_webhook(unsigned_webhook({**an_item(), field: "4111111111111111"}))

    row = kept(service)
    assert b"************1111" in bytes(row["body"])
    assert "4111111111111111" not in str(row)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "x", "eventId": "4111111111111111"},
        {"type": "x", "data": {"id": "4111111111111111"}},
        {"type": "4111111111111111", "data": {"merchantAccount": "4111111111111111"}},
    ],
)
@pytest.mark.parametrize("path", ["/webhooks/adyen", PLATFORM])
def test_no_card_number_is_kept_of_what_an_event_claims(
    service: Service, path: str, event: Mapping[str, object]
) -> None:
    service.client.post(path, data=json.dumps(event).encode())

    row = kept(service)
    assert b"************1111" in bytes(row["body"])
    assert "4111111111111111" not in str(row)


# Floods


def test_a_flood_of_one_stranger_does_not_hide_what_the_psp_sent(service: Service) -> None:
    flood = {
        post_from(service, STRANGER, b"forged") for _ in range(3 * KEPT_AN_ADDRESS_A_MINUTE_MAX)
    }

    assert flood == {400}
    assert post_from(service, PSP, unsigned_webhook(an_item())) == 401
    assert service.rows("SELECT 1 FROM webhook_refusals WHERE remote_address = :psp", psp=PSP)


def test_a_flood_of_many_strangers_is_refused_and_writes_little(service: Service) -> None:
    strangers = [f"203.0.{number // 250}.{number % 250}" for number in range(4 * KEPT_A_MINUTE_MAX)]

    statuses = {post_from(service, stranger, b"forged") for stranger in strangers}

    assert statuses == {400}
    assert service.count("webhook_refusals") <= 2 * KEPT_A_MINUTE_MAX  # a minute may end meanwhile


def test_the_newest_refusals_replace_the_oldest(service: Service) -> None:
    service.post_webhook(b"the oldest")
    service.execute(
        "SELECT setval(pg_get_serial_sequence('webhook_refusals', 'refusal_id'), :n)",
        n=ROWS_MAX + TRIM_EVERY - 1,
    )

    service.post_webhook(b"the newest")

    assert bytes(kept(service)["body"]) == b"the newest"


# Problems


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/webhooks/adyen", b"{}", 400),
        ("POST", "/webhooks/adyen", unsigned_webhook(an_item()), 401),
        ("POST", "/webhooks/adyen", b" " * (1024 * 1024 + 1), 413),
        ("GET", "/webhooks/adyen", b"", 405),
        ("POST", "/payments", b"{}", 401),
        ("GET", "/no/such/path", b"", 404),
    ],
)
def test_every_problem_has_the_same_fields(
    service: Service, method: str, path: str, body: bytes, status: int
) -> None:
    response = service.client.open(path, method=method, data=body)

    problem = response.json
    assert problem is not None
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"].endswith(problem["code"])
    assert problem["title"]
    assert response.headers["X-Request-ID"]


def test_a_sane_request_id_comes_back(service: Service) -> None:
    response = service.post_webhook(a_webhook(), **{"X-Request-ID": "checkout-7.a_B"})

    assert response.headers["X-Request-ID"] == "checkout-7.a_B"


@pytest.mark.parametrize("insane", ["", "x" * 65, "a b", "<script>", 'a"b'])
def test_an_insane_request_id_is_replaced(service: Service, insane: str) -> None:
    response = service.post_webhook(a_webhook(), **{"X-Request-ID": insane})

    assert response.headers["X-Request-ID"] not in {"", insane}


def test_behind_a_proxy_the_senders_address_is_the_one_that_the_proxy_tells(
    service: Service,
) -> None:
    behind = service.restarted(proxies=1)
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}

    for one in (service, behind):
        one.post_webhook(b"forged", **headers)
    behind.container.close()

    kept = service.rows("SELECT remote_address FROM webhook_refusals ORDER BY refusal_id")
    assert [row["remote_address"] for row in kept] == ["127.0.0.1", "198.51.100.7"]
