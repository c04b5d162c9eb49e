"""Rule S8: refunds that the PSP took and never told of again, and refunds that came back."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.bootstrap import new_id
from app.domain.payment import CaptureMode
from reconciliation.sweep import Action, Finding
from tests.support.builders import ACCOUNT, PSP_REFERENCE, an_item
from tests.support.service import Row, Service, at_once

HOUR = 3600
DAY = 24 * HOUR
QUIET = 300

#: The reference that the fake PSP gives the first refund.
REFUND = "MODREFUND"


def planned(service: Service, *, in_seconds: float = 0) -> list[Finding]:
    plan = service.sweep().plan(as_of=service.clock.at + timedelta(seconds=in_seconds))
    return [finding for finding in plan if finding.rule == "S8"]


def told(service: Service, *, in_seconds: float = 0) -> list[Action]:
    return [finding.action for finding in planned(service, in_seconds=in_seconds)]


def sweep_at(service: Service, seconds: float) -> list[Action]:
    service.advance(seconds)
    return [finding.action for finding in service.sweep_once() if finding.rule == "S8"]


def notes(service: Service, payment_id: UUID) -> list[Row]:
    return service.events(payment_id, "noted")


def cases(service: Service) -> list[Row]:
    return service.rows("SELECT kind, payment_id, subject, amount_minor FROM breaks")


def modification(
    code: str, *, reference: str = REFUND, hour: int = 11, amount_minor: int = 12500
) -> dict[str, object]:
    return an_item(
        code,
        psp_reference=reference,
        original_reference=PSP_REFERENCE,
        amount_minor=amount_minor,
        event_date=f"2026-11-20T{hour}:00:00+01:00",
    )


def refunding(service: Service) -> UUID:
    """Bring a payment to where the PSP has taken its refund: what was paid could not be booked."""
    service.outside.booking.says_yes = False
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.deliver(modification("CAPTURE", reference="CAP1", hour=10))
    service.settle()
    service.receive(an_item())
    assert service.outside.psp.asked("refund") == 1
    return payment_id


def sold(service: Service) -> UUID:
    """Bring a payment to its end, captured."""
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.deliver(modification("CAPTURE", reference="CAP1", hour=10))
    service.settle()
    service.receive(an_item())
    assert service.payment(payment_id).state == "fin"
    return payment_id


def refund_for_the_merchant(service: Service, payment_id: UUID, *, amount_minor: int) -> None:
    """Keep a refund that the flow did not ask for, taken by the PSP."""
    command_id = new_id()
    about = {"payment_id": payment_id, "command_id": command_id, "at": service.clock.at}
    service.execute(
        "INSERT INTO commands (message_id, saga_id, step, direction, round, merchant_account,"
        " service_id, operation, idempotency_key, data, timestamp)"
        " SELECT :command_id, saga_id, 'refund', 'act', 1, :account, 'psp', 'refund', 'key',"
        " jsonb_build_object('amount_minor', CAST(:amount AS int)), :at"
        " FROM saga_instances WHERE payment_id = :payment_id",
        account=ACCOUNT,
        amount=amount_minor,
        **about,
    )
    service.execute(
        "INSERT INTO responses (message_id, command_id, saga_id, service_id, data, success,"
        " timestamp, applied_at)"
        " SELECT :response_id, :command_id, saga_id, 'psp',"
        " jsonb_build_object('psp_reference', CAST(:reference AS text)), true, :at, :at"
        " FROM saga_instances WHERE payment_id = :payment_id",
        response_id=new_id(),
        reference=REFUND,
        **about,
    )


def test_a_refund_without_a_webhook_is_found_after_three_days_and_then_every_day(
    service: Service,
) -> None:
    payment_id = refunding(service)

    not_yet = told(service, in_seconds=3 * DAY - 1)
    first = planned(service, in_seconds=3 * DAY)
    found = [sweep_at(service, 3 * DAY)]
    found += [sweep_at(service, DAY / 2) for _ in range(6)]

    assert not_yet == []
    assert [(one.action, one.why) for one in first] == [
        (Action.CHECK, "refund MODREFUND not confirmed")
    ]
    assert first[0].next_look == first[0].since + timedelta(days=4)
    assert found == [[Action.CHECK], [], [Action.CHECK], [], [Action.CHECK], [], [Action.CHECK]]
    assert len(notes(service, payment_id)) == 4
    assert service.discrepancies() == []


def test_a_refund_without_a_webhook_is_a_case_after_ten_days(service: Service) -> None:
    payment_id = refunding(service)

    not_yet = told(service, in_seconds=10 * DAY - 1)
    found = sweep_at(service, 10 * DAY)
    again = told(service, in_seconds=HOUR)

    assert not_yet == [Action.CHECK]
    assert found == [Action.ESCALATE]
    assert again == []
    assert cases(service) == [
        {
            "kind": "MISSING_AT_PSP",
            "payment_id": payment_id,
            "subject": REFUND,
            "amount_minor": 12500,
        }
    ]


@pytest.mark.parametrize("code", ["REFUND", "REFUND_FAILED", "REFUNDED_REVERSED"])
def test_a_refund_that_the_psp_has_told_of_is_not_looked_for(service: Service, code: str) -> None:
    refunding(service)
    service.deliver(modification(code))
    service.drain()

    assert [one for one in planned(service, in_seconds=9 * DAY) if one.action is Action.CHECK] == []


def test_a_refund_of_the_merchants_is_looked_for_as_well(service: Service) -> None:
    payment_id = sold(service)
    refund_for_the_merchant(service, payment_id, amount_minor=500)

    found = [sweep_at(service, 3 * DAY), sweep_at(service, 7 * DAY)]

    assert found == [[Action.CHECK], [Action.ESCALATE]]
    assert [case["amount_minor"] for case in cases(service)] == [500]


def test_a_refund_whose_money_went_back_some_other_way_is_not_looked_for(service: Service) -> None:
    payment_id = refunding(service)
    service.receive(modification("REFUND", reference="BYHAND"))

    assert service.payment(payment_id).state == "compensated"
    assert told(service, in_seconds=5 * DAY) == []


def test_sweeps_at_once_note_a_refund_once(service: Service) -> None:
    payment_id = sold(service)
    refund_for_the_merchant(service, payment_id, amount_minor=500)
    service.advance(3 * DAY)

    at_once([service.sweep_once] * 3)

    assert len(notes(service, payment_id)) == 1


@pytest.mark.parametrize("code", ["REFUND_FAILED", "REFUNDED_REVERSED"])
def test_a_refund_that_came_back_is_a_case(service: Service, code: str) -> None:
    """F14: the payment rests, its money is with us, and nobody would ever look at it."""
    payment_id = refunding(service)
    service.receive(modification("REFUND"))
    service.receive(modification(code, hour=12))

    not_yet = told(service, in_seconds=QUIET - 1)
    found = sweep_at(service, QUIET)

    assert service.payment(payment_id).state == "compensated"
    assert not_yet == []
    assert found == [Action.ESCALATE]
    assert cases(service) == [
        {
            "kind": "STATUS_MISMATCH",
            "payment_id": payment_id,
            "subject": REFUND,
            "amount_minor": 12500,
        }
    ]
    assert sweep_at(service, HOUR) == []


def test_a_refund_of_the_merchants_that_came_back_is_a_case(service: Service) -> None:
    sold(service)
    service.receive(modification("REFUND", amount_minor=500))
    service.receive(modification("REFUND_FAILED", hour=12, amount_minor=500))

    sweep_at(service, QUIET)

    assert [(case["kind"], case["amount_minor"]) for case in cases(service)] == [
        ("STATUS_MISMATCH", 500)
    ]


def test_a_refund_that_came_back_and_was_repeated_is_no_case(service: Service) -> None:
    sold(service)
    service.receive(modification("REFUND_FAILED", hour=12))
    service.receive(modification("REFUND", hour=13))

    assert told(service, in_seconds=HOUR) == []


def test_a_refund_that_failed_while_the_payment_is_undone_is_the_sagas(service: Service) -> None:
    """The next refund is on its way, under a new key."""
    payment_id = refunding(service)
    service.receive(modification("REFUND_FAILED"))

    assert service.payment(payment_id).state == "compensating"
    assert service.outside.psp.asked("refund") == 2
    assert told(service, in_seconds=HOUR) == []


def test_a_case_that_a_person_has_settled_is_not_opened_again(service: Service) -> None:
    sold(service)
    service.receive(modification("REFUND_FAILED", hour=12))
    sweep_at(service, QUIET)
    service.execute("UPDATE breaks SET state = 'resolved'")

    assert sweep_at(service, DAY) == []
    assert service.open_breaks() == []
