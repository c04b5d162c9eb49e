"""What was refused is kept for operators, without trust and within bounds; problems look alike."""

import pytest

from tests.support.builders import a_webhook, an_item, unsigned_webhook
from tests.support.service import Service
from webhooks.refusals import BODY_BYTES_MAX, KEPT_A_MINUTE_MAX, ROWS_MAX


def test_a_refusal_is_kept_with_its_reason_and_its_claim(service: Service) -> None:
    body = unsigned_webhook(an_item())

    service.post_webhook(body)

    [kept] = service.rows("SELECT * FROM webhook_refusals")
    assert kept["code"] == "invalid_signature"
    assert kept["claimed_account"] == "CountersignECOM"
    assert bytes(kept["body"]) == body


def test_a_kept_body_is_cut(service: Service) -> None:
    service.post_webhook(b"x" * 100_000)

    [kept] = service.rows("SELECT body FROM webhook_refusals")
    assert len(kept["body"]) == BODY_BYTES_MAX


def test_a_flood_of_forgeries_is_refused_and_writes_little(service: Service) -> None:
    flood = 2 * KEPT_A_MINUTE_MAX + 10

    statuses = {service.post_webhook(b"forged").status_code for _ in range(flood)}

    assert statuses == {400}
    assert service.count("webhook_refusals") <= 2 * KEPT_A_MINUTE_MAX  # a minute may end meanwhile


def test_the_newest_refusals_replace_the_oldest(service: Service) -> None:
    service.post_webhook(b"the oldest")
    service.execute(
        "SELECT setval(pg_get_serial_sequence('webhook_refusals', 'refusal_id'), :n)",
        n=ROWS_MAX + 1,
    )

    service.post_webhook(b"the newest")

    [kept] = service.rows("SELECT body FROM webhook_refusals")
    assert bytes(kept["body"]) == b"the newest"


@pytest.mark.parametrize("account", ["\x00", "\ud800", "x" * 500, "ß"])
def test_an_account_that_can_not_be_stored_is_refused_all_the_same(
    service: Service, account: str
) -> None:
    response = service.post_webhook(unsigned_webhook({**an_item(), "merchantAccountCode": account}))

    assert response.status_code in {400, 401}
    assert service.count("webhook_refusals") == 1


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
