"""The routes of participants: who may pass, which bodies are refused, and how errors look."""

from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app.domain.access import SERVICES, Role
from app.errors import InvalidFields
from app.settings import Settings
from tests.support.builders import ACCOUNT, a_start_body, an_item
from tests.support.participants import Item, Participant, unknown
from tests.support.service import Service

OTHER_ACCOUNT = "ShopECOM"
VISA = "4111111111111111"


@pytest.fixture
def elsewhere(service: Service) -> Iterator[Service]:
    other = service.restarted(remote_services="booking")
    yield other
    other.container.close()


@pytest.fixture
def booking(elsewhere: Service) -> Participant:
    return Participant.of(elsewhere, "booking")


@pytest.fixture
def offered(elsewhere: Service) -> None:
    """A command that may be taken."""
    elsewhere.start()
    elsewhere.settle()
    elsewhere.receive(an_item())


@pytest.fixture
def item(request: pytest.FixtureRequest, booking: Participant) -> Item:
    """A command that was taken."""
    request.getfixturevalue("offered")
    return booking.take_one()


def problem_of(answer: TestResponse) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json"
    assert answer.json is not None
    return answer.status_code, answer.json["code"]


def bearer(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/payments"),
        ("GET", "/payments"),
        ("GET", "/payments/0199a000-0000-7000-8000-000000000001"),
        ("GET", "/payments/0199a000-0000-7000-8000-000000000001/timeline"),
    ],
)
def test_a_participants_key_opens_nothing_of_the_merchants(
    elsewhere: Service, booking: Participant, method: str, path: str
) -> None:
    headers = bearer(booking.api_key) | {"Idempotency-Key": "key-1"}

    answer = elsewhere.client.open(path, method=method, json=a_start_body(), headers=headers)

    assert problem_of(answer) == (403, "forbidden")
    assert elsewhere.count("payments") == 0


def test_a_participants_key_does_not_sign_in_to_the_console(
    elsewhere: Service, booking: Participant
) -> None:
    answer = elsewhere.client.post("/console/sign-in", data={"api_key": booking.api_key})

    assert answer.status_code == 401


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.PARTICIPANT])
@pytest.mark.parametrize(
    "path", ["/commands/claims", "/commands/0199a000-0000-7000-8000-000000000001/response"]
)
def test_no_other_key_opens_the_routes_of_participants(
    elsewhere: Service, role: Role, path: str
) -> None:
    headers = bearer(elsewhere.api_key(role))

    assert problem_of(elsewhere.client.post(path, json={}, headers=headers)) == (403, "forbidden")
    assert problem_of(elsewhere.client.post(path, json={})) == (401, "unauthenticated")


@pytest.mark.parametrize(
    ("role", "service_id"),
    [(Role.PARTICIPANT, None), (Role.PARTICIPANT, "weather"), (Role.MERCHANT, "booking")],
)
def test_a_participants_key_is_bound_to_a_service_and_no_other_key_is(
    service: Service, role: Role, service_id: str | None
) -> None:
    with pytest.raises(InvalidFields):
        service.container.accounts.create_api_key(ACCOUNT, role, service_id=service_id)

    assert service.container.accounts.api_keys() == []


@pytest.mark.usefixtures("offered")
def test_a_participant_takes_the_commands_of_its_own_service_and_account_only(
    elsewhere: Service, booking: Participant
) -> None:
    elsewhere.container.accounts.add(OTHER_ACCOUNT, [])
    mail = Participant.of(elsewhere, "mail")
    other = Participant.of(elsewhere, "booking", OTHER_ACCOUNT)

    assert [len(one.take()) for one in (mail, other, booking)] == [0, 0, 1]


def test_a_command_of_somebody_else_is_not_there(
    elsewhere: Service, booking: Participant, item: Item
) -> None:
    elsewhere.container.accounts.add(OTHER_ACCOUNT, [])
    strangers = [
        Participant.of(elsewhere, "mail"),
        Participant.of(elsewhere, "booking", OTHER_ACCOUNT),
    ]

    answers = [one.respond(item, success=True, data={}) for one in strangers]
    answers += [
        booking.respond(one, success=True, data={})
        for one in (unknown(item), {"message_id": "no-uuid"})
    ]

    assert {problem_of(answer) for answer in answers} == {(404, "command_not_found")}
    assert elsewhere.rows("SELECT 1 FROM responses WHERE service_id = 'booking'") == []


@pytest.mark.usefixtures("offered")
def test_a_command_that_nobody_took_can_not_be_answered(
    elsewhere: Service, booking: Participant
) -> None:
    rows = elsewhere.rows("SELECT message_id FROM commands WHERE service_id = 'booking'")

    answers = [booking.respond({**row}, success=True, data={}) for row in rows]

    assert [problem_of(answer) for answer in answers] == [(404, "command_not_found")]


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"limit": True}, "limit"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"lease_seconds": 301}, "lease_seconds"),
        ({"lease_seconds": 1.5}, "lease_seconds"),
        ({"wait": 1}, "wait"),
        ([], "body"),
    ],
)
def test_a_wrong_claim_is_refused_and_takes_nothing(
    booking: Participant, body: object, field: str
) -> None:
    refused = booking.post("/commands/claims", body)

    assert problem_of(refused) == (422, "invalid_fields")
    assert refused.json is not None
    assert [error["field"] for error in refused.json["errors"]] == [field]
    assert len(booking.take()) == 1


def nested(depth: int) -> dict[str, object]:
    return {"a": nested(depth - 1)} if depth > 1 else {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"data": {}}, "success"),
        ({"success": 1}, "success"),
        ({"success": "true"}, "success"),
        ({"success": True, "data": []}, "data"),
        ({"success": True, "data": None}, "data"),
        ({"success": True, "more": 1}, "more"),
        ({"success": True, "data": {"price": 1.5}}, "data.price"),
        ({"success": True, "data": {"price": 1e5}}, "data.price"),
        ({"success": True, "data": {"all": [0, {"big": 2**53}]}}, "data.all[1].big"),
        ({"success": True, "data": {"all": -(2**70)}}, "data.all"),
        ({"success": True, "data": {"text": "a\x00b"}}, "data.text"),
        ({"success": True, "data": {"text": "a\ud800b"}}, "data.text"),
        ({"success": True, "data": {"a\x00b": 1}}, "data"),
        ({"success": True, "data": {"text": "x" * 9000}}, "data"),
        ({"success": True, "data": nested(9)}, "data.a.a.a.a.a.a.a.a"),
    ],
)
def test_a_wrong_answer_is_refused_and_the_field_named(
    elsewhere: Service, booking: Participant, item: Item, body: object, field: str
) -> None:
    refused = booking.post(f"/commands/{item['message_id']}/response", body)

    assert problem_of(refused) == (422, "invalid_fields")
    assert refused.json is not None
    assert [error["field"] for error in refused.json["errors"]] == [field]
    assert elsewhere.rows("SELECT 1 FROM responses WHERE service_id = 'booking'") == []
    assert booking.answer(item)["applied"]


@pytest.mark.parametrize("depth", [300, 900, 3000, 100_000])
def test_a_body_without_a_bottom_is_refused(
    elsewhere: Service, booking: Participant, item: Item, depth: int
) -> None:
    body = '{"success": true, "data": ' + '{"a":' * depth + "1" + "}" * depth + "}"

    refused = elsewhere.client.post(
        f"/commands/{item['message_id']}/response",
        data=body,
        headers=bearer(booking.api_key),
        content_type="application/json",
    )

    assert problem_of(refused)[0] in {400, 422}


@pytest.mark.parametrize("data", [{"note": VISA}, {"a": [{VISA: 1}]}, {"psp_reference": VISA}])
def test_an_answer_with_a_card_number_is_refused_and_nowhere_stored(
    elsewhere: Service, booking: Participant, item: Item, data: object
) -> None:
    refused = booking.respond(item, success=True, data=data)

    assert problem_of(refused) == (422, "card_number_refused")
    assert VISA not in refused.text
    assert elsewhere.rows("SELECT 1 FROM responses WHERE service_id = 'booking'") == []


KEPT: list[dict[str, Any]] = [
    {},
    {"none": None, "yes": True, "no": False, "zero": 0, "big": 2**53 - 1, "small": -(2**53 - 1)},
    {"text": "Zürich 東京 \U0001f3e8 \\u0000 \" ' \n\t", "": "no name", "list": [1, [], {}]},
]


@pytest.mark.parametrize("data", KEPT)
def test_an_answer_is_kept_as_it_was_said_and_the_history_agrees(
    elsewhere: Service, booking: Participant, item: Item, data: dict[str, Any]
) -> None:
    booking.answer(item, **data)
    elsewhere.settle()

    [kept] = elsewhere.rows("SELECT data FROM responses WHERE service_id = 'booking'")
    assert kept["data"] == data
    assert elsewhere.discrepancies() == []
    assert booking.answer(item, **data)["applied"]


def test_a_revoked_key_takes_nothing(elsewhere: Service, booking: Participant) -> None:
    elsewhere.container.accounts.revoke_api_key(booking.api_key.split("_")[1])

    assert problem_of(booking.post("/commands/claims", {})) == (401, "unauthenticated")


@pytest.mark.parametrize("service_id", SERVICES)
def test_every_service_that_may_have_a_key_may_live_elsewhere(
    service: Service, service_id: str
) -> None:
    given = service.container.settings.model_dump() | {"remote_services": service_id}

    assert Settings.model_validate(given).services_elsewhere == {service_id}
