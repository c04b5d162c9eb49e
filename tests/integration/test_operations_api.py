"""Operators over HTTP: who may, what is answered, and the desk (F29)."""

from typing import Any
from uuid import UUID

import pytest
from werkzeug.test import TestResponse

from app.domain.access import Role
from tests.support.builders import PAYMENT_ID
from tests.support.desk import REASON, finished, refused_undo
from tests.support.service import Service


def act(
    service: Service,
    payment_id: UUID | str,
    body: object,
    *,
    key: str | None = None,
) -> TestResponse:
    token = key or service.api_key(Role.OPERATOR)
    return service.client.post(
        f"/payments/{payment_id}/actions",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
    )


def desk(service: Service, role: Role = Role.OPERATOR, **asked: str) -> TestResponse:
    headers = {"Authorization": f"Bearer {service.api_key(role)}"}
    return service.client.get("/reviews", query_string=asked, headers=headers)


def resume(**more: object) -> dict[str, object]:
    return {"action": "resume", "reason": REASON, **more}


def audit(service: Service) -> list[Any]:
    return list(service.rows("SELECT * FROM operator_actions"))


def test_an_operator_resumes_a_payment_and_gets_it_as_it_stands(service: Service) -> None:
    payment_id = refused_undo(service)

    answer = act(service, payment_id, resume())

    assert answer.status_code == 200
    assert answer.json is not None
    assert (answer.json["id"], answer.json["state"]) == (str(payment_id), "compensating")
    assert answer.json["version"] == service.payment(payment_id).version


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"action": "skip"}, "compensating"),
        ({"action": "abandon"}, "compensating"),
        ({"action": "force", "to": "fin"}, "fin"),
        ({"action": "force", "to": "compensated"}, "compensated"),
        ({"action": "force", "to": "declined"}, "declined"),
    ],
)
def test_every_action_leads_where_it_says(
    service: Service, body: dict[str, str], state: str
) -> None:
    answer = act(service, refused_undo(service), {"reason": REASON, **body})

    assert answer.json is not None
    assert (answer.status_code, answer.json["state"]) == (200, state)


def test_the_audit_names_the_key_and_the_person_if_they_are_told(service: Service) -> None:
    key = service.api_key(Role.OPERATOR)
    prefix = key.split("_")[1]
    payment_id = refused_undo(service)

    act(service, payment_id, {"action": "skip", "reason": f"  {REASON} ", "by": "ada"}, key=key)

    [line] = audit(service)
    assert (line["operator"], line["reason"]) == (f"ada (API key {prefix})", REASON)
    [cause] = service.rows("SELECT cause FROM payment_events WHERE cause LIKE 'operator:%'")
    assert cause["cause"] == f"operator:ada (API key {prefix})"


def test_without_a_person_the_key_is_named(service: Service) -> None:
    key = service.api_key(Role.OPERATOR)

    act(service, refused_undo(service), resume(), key=key)

    assert audit(service)[0]["operator"] == f"API key {key.split('_')[1]}"


@pytest.mark.parametrize(
    "role", [role for role in Role if role not in {Role.OPERATOR, Role.PARTICIPANT}]
)
def test_no_other_role_may_act(service: Service, role: Role) -> None:
    payment_id = refused_undo(service)

    answer = act(service, payment_id, resume(), key=service.api_key(role))

    assert answer.status_code == 403
    assert service.payment(payment_id).state == "manual_review"


def test_a_participant_may_not_act_and_a_stranger_is_nobody(service: Service) -> None:
    payment_id = refused_undo(service)
    accounts = service.container.accounts
    participant = accounts.create_api_key("CountersignECOM", Role.PARTICIPANT, service_id="booking")

    assert act(service, payment_id, resume(), key=participant).status_code == 403
    assert act(service, payment_id, resume(), key="csk_0_0").status_code == 401


def test_another_accounts_payment_is_not_there(service: Service) -> None:
    payment_id = refused_undo(service)
    service.container.accounts.add("OtherECOM", [])
    key = service.api_key(Role.OPERATOR, "OtherECOM")

    answer = act(service, payment_id, resume(), key=key)

    assert answer.status_code == 404
    assert service.payment(payment_id).state == "manual_review"
    assert act(service, PAYMENT_ID, resume()).status_code == 404
    assert act(service, "no-uuid", resume()).status_code == 404


def test_what_the_table_forbids_is_a_conflict_and_stays_on_the_timeline(service: Service) -> None:
    payment_id = finished(service)

    answer = act(service, payment_id, {"action": "abandon", "reason": REASON})

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "action_forbidden")
    assert "refund it instead" in answer.json["detail"]
    assert len(service.events(payment_id, "transition_refused")) == 1
    assert audit(service) == []


def test_what_has_changed_since_is_a_conflict(service: Service) -> None:
    payment_id = refused_undo(service)

    answer = act(service, payment_id, resume(version=1))

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "payment_changed")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": REASON}, "action"),
        ({"action": "explode", "reason": REASON}, "action"),
        ({"action": "assign", "reason": REASON}, "action"),
        ({"action": "resume"}, "reason"),
        ({"action": "resume", "reason": ""}, "reason"),
        ({"action": "resume", "reason": "   "}, "reason"),
        ({"action": "resume", "reason": 7}, "reason"),
        ({"action": "resume", "reason": "two\nlines"}, "reason"),
        ({"action": "resume", "reason": "r" * 501}, "reason"),
        ({"action": "resume", "reason": REASON, "by": "ada\x00"}, "by"),
        ({"action": "resume", "reason": REASON, "to": "fin"}, "to"),
        ({"action": "force", "reason": REASON}, "to"),
        ({"action": "force", "reason": REASON, "to": "capture"}, "to"),
        ({"action": "force", "reason": REASON, "to": "nowhere"}, "to"),
        ({"action": "resume", "reason": REASON, "version": "1"}, "version"),
        ({"action": "resume", "reason": REASON, "more": 1}, "more"),
        ([], "body"),
    ],
)
def test_a_wrong_field_is_named(service: Service, body: object, field: str) -> None:
    payment_id = refused_undo(service)

    answer = act(service, payment_id, body)

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_fields")
    assert [problem["field"] for problem in answer.json["errors"]] == [field]
    assert service.payment(payment_id).state == "manual_review"


def test_a_card_number_is_not_kept_as_a_reason(service: Service) -> None:
    payment_id = refused_undo(service)

    answer = act(service, payment_id, {"action": "skip", "reason": "card 4111 1111 1111 1111"})

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (422, "card_number_refused")
    assert audit(service) == []


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.APPROVER, Role.AUDITOR])
def test_the_desk_is_shown_to_those_whose_work_it_is(service: Service, role: Role) -> None:
    payment_id = refused_undo(service)
    service.advance(120)

    answer = desk(service, role)

    assert answer.status_code == 200
    assert answer.json is not None
    [review] = answer.json["items"]
    assert review == {
        "payment_id": str(payment_id),
        "merchant_account": "CountersignECOM",
        "merchant_reference": "ORDER-1001",
        "psp_reference": "8816178914079738",
        "owner": "payments on call",
        "opened_at": "2026-11-20T09:00:00.000000Z",
        "age_seconds": 120,
        "reason": "undo_failed",
        "step": "preauth",
        "next_step": review["next_step"],
        "amount": {"value": 12500, "currency": "EUR"},
        "held": 12500,
        "kept": 0,
        "version": service.payment(payment_id).version,
    }


def test_a_desk_is_told_by_its_owner_and_ends_at_the_account(service: Service) -> None:
    refused_undo(service)
    service.container.accounts.add("OtherECOM", [])
    other = service.api_key(Role.OPERATOR, "OtherECOM")

    mine = desk(service, owner="payments on call").json
    anothers = desk(service, owner="grace").json
    theirs = service.client.get("/reviews", headers={"Authorization": f"Bearer {other}"}).json

    assert mine is not None
    assert len(mine["items"]) == 1
    assert anothers == theirs == {"items": []}


def test_a_checkouts_key_does_not_see_the_desk(service: Service) -> None:
    assert desk(service, Role.MERCHANT).status_code == 403


def test_an_owner_that_no_desk_can_have_is_named(service: Service) -> None:
    answer = desk(service, owner="\x00")

    assert answer.json is not None
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "owner")
