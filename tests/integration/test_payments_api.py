"""Looking at payments: one, many, their timelines, and who may (contract.md section 4)."""

import base64
import json
from typing import Any
from uuid import UUID

import pytest
from werkzeug.test import TestResponse

from app.domain.access import Role
from tests.support.builders import HMAC_KEY, a_start_body, an_item
from tests.support.service import Service

FIELDS = {
    "id",
    "merchant_account",
    "merchant_reference",
    "psp_reference",
    "state",
    "amount",
    "funds",
    "version",
    "created_at",
    "updated_at",
}


def get(service: Service, path: str, token: str | None = None) -> TestResponse:
    authorization = f"Bearer {token or service.api_key()}"
    return service.client.get(path, headers={"Authorization": authorization})


def read(service: Service, path: str, token: str | None = None) -> dict[str, Any]:
    response = get(service, path, token)
    assert response.status_code == 200
    assert isinstance(response.json, dict)
    return response.json


def ids_of(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["items"]]


def start_many(service: Service, count: int, *, first: int = 0) -> list[str]:
    """Start payments a second apart; newest first."""
    started = []
    for number in range(first, first + count):
        started.append(str(service.start(merchant_reference=f"ORDER-{number}")))
        service.advance(1)
    return started[::-1]


def test_a_payment_is_shown_as_the_contract_says(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.receive(an_item())

    shown = read(service, f"/payments/{payment_id}")

    assert shown.keys() >= FIELDS
    assert shown["psp_reference"] == "8816178914079738"
    assert shown["funds"] == {
        "status": "authorised",
        "authorised": 12500,
        "captured": 0,
        "refunded": 0,
        "charged_back": 0,
        "cancelled": 0,
    }


def test_another_accounts_payment_looks_like_none(service: Service) -> None:
    payment_id = service.start()
    service.container.accounts.add("OtherECOM", [HMAC_KEY])
    stranger = service.api_key(account="OtherECOM")

    paths = [f"/payments/{payment_id}", f"/payments/{payment_id}/timeline"]
    statuses = [get(service, path, stranger).status_code for path in paths]

    assert statuses == [404, 404]
    assert read(service, "/payments", stranger)["items"] == []


@pytest.mark.parametrize("payment_id", [str(UUID(int=7)), "nonsense", "%00", "1" * 300])
def test_no_such_payment_is_not_found(service: Service, payment_id: str) -> None:
    response = get(service, f"/payments/{payment_id}")

    assert response.status_code == 404
    assert response.json is not None
    assert response.json["code"] == "payment_not_found"


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.PARTICIPANT])
def test_every_role_may_look(service: Service, role: Role) -> None:
    payment_id = service.start()
    token = service.api_key(role)

    paths = ["/payments", f"/payments/{payment_id}", f"/payments/{payment_id}/timeline"]

    assert [get(service, path, token).status_code for path in paths] == [200] * 3


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.APPROVER, Role.AUDITOR])
def test_only_a_merchant_may_start(service: Service, role: Role) -> None:
    headers = {"Authorization": f"Bearer {service.api_key(role)}", "Idempotency-Key": "key-1"}

    response = service.client.post("/payments", json=a_start_body(), headers=headers)

    assert response.status_code == 403
    assert service.count("payments") == 0


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dTpw",
        "Bearer csk_00000000_wrong",
        "Bearer \u00e9",
        "csk_a_b",
    ],
)
def test_without_a_valid_key_nothing_is_shown(service: Service, authorization: str) -> None:
    response = service.client.get("/payments", headers={"Authorization": authorization})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_pages_show_every_payment_once_newest_first(service: Service) -> None:
    token, newest_first = service.api_key(), start_many(service, 7)

    pages, cursor = [], ""
    while True:
        page = read(service, f"/payments?limit=3{cursor}", token)
        pages.append(ids_of(page))
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one for page in pages for one in page] == newest_first


def test_payments_started_meanwhile_neither_repeat_nor_hide_others(service: Service) -> None:
    token, newest_first = service.api_key(), start_many(service, 4)
    first = read(service, "/payments?limit=2", token)
    start_many(service, 3, first=10)

    second = read(service, f"/payments?limit=2&cursor={first['next_cursor']}", token)

    assert ids_of(first) + ids_of(second) == newest_first
    assert second["next_cursor"] is None


def test_payments_of_one_instant_are_paged_without_loss(service: Service) -> None:
    token = service.api_key()
    started = {str(service.start(merchant_reference=f"ORDER-{number}")) for number in range(5)}

    first = read(service, "/payments?limit=2", token)
    second = read(service, f"/payments?limit=3&cursor={first['next_cursor']}", token)

    assert set(ids_of(first) + ids_of(second)) == started


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("merchant_reference=ORDER-1", ["ORDER-1"]),
        ("merchant_reference=ORDER-9", []),
        ("psp_reference=PSP0", ["ORDER-0"]),
        ("state=fin", ["ORDER-0"]),
        ("state=preauth&merchant_reference=ORDER-0", []),
    ],
)
def test_filters_select(service: Service, query: str, expected: list[str]) -> None:
    start_many(service, 2)
    service.settle()
    service.receive(an_item(psp_reference="PSP0", merchant_reference="ORDER-0"))

    found = read(service, f"/payments?{query}")["items"]

    assert [item["merchant_reference"] for item in found] == expected


def cursor_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "query",
    [
        "cursor=nonsense",
        "cursor=%00",
        f"cursor={cursor_of(['2026-11-20T09:00:00+00:00'])}",
        f"cursor={cursor_of(['yesterday', str(UUID(int=1))])}",
        f"cursor={cursor_of([1, 2])}",
        f"cursor={cursor_of({'a': 1, 'b': 2})}",
        f"cursor={cursor_of(None)}",
        f"cursor={base64.urlsafe_b64encode(b'[' * 20000).decode()}",
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=ten",
        "limit=\u0661",
        "limit=0000000010000",
        "state=nowhere",
        "merchant_reference=%00",
        "colour=blue",
    ],
)
def test_a_query_that_makes_no_sense_is_named(service: Service, query: str) -> None:
    response = get(service, f"/payments?{query}")

    assert response.status_code == 422
    assert response.json is not None
    assert response.json["errors"][0]["field"] == query.partition("=")[0]


def test_a_timeline_is_told_oldest_first(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.advance(5)
    service.receive(an_item())
    service.advance(5)
    service.deliver(an_item())

    items = read(service, f"/payments/{payment_id}/timeline")["items"]

    assert all(item.keys() == {"at", "kind", "title", "data"} for item in items)
    assert [item["at"] for item in items] == sorted(item["at"] for item in items)
    kinds = [item["kind"] for item in items]
    assert kinds[0] == "payment_started"
    assert kinds.index("webhook_received") < kinds.index("flow_moved", 5)
    assert kinds[-1] == "webhook_redelivered"


def test_a_timeline_names_the_webhook_that_caused_a_line(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.receive(an_item())

    items = read(service, f"/payments/{payment_id}/timeline")["items"]

    [received] = [item for item in items if item["kind"] == "webhook_received"]
    caused = [item for item in items if item["data"].get("cause", "").startswith("webhook:")]
    assert {item["data"]["cause"] for item in caused} == {f"webhook:{received['data']['guid']}"}
