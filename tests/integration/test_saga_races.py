"""What one worker may find in one transaction: its own answers beside newer claims (F22, F24, F26).

A process that stood still may come back to a saga that it claimed twice itself; a webhook may have
moved a saga whose answer is just coming in.
"""

import pytest

from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.runners import call, orchestrator
from tests.support.service import Service


def answered(service: Service, step: str) -> int:
    rows = service.rows(
        "SELECT data FROM payment_events WHERE kind = 'step_answered' AND data->>'step' = :step",
        step=step,
    )
    return len(rows)


def transactions_of_answers(service: Service, service_id: str) -> int:
    """Count the transactions in which the answers of a service were settled."""
    rows = service.rows(
        "SELECT DISTINCT xmin::text FROM responses WHERE service_id = :id", id=service_id
    )
    return len(rows)


def test_an_answer_that_its_webhook_overtook_is_kept_although_its_saga_is_claimed_anew(
    service: Service,
) -> None:
    """F24: evidence commits on its own, also beside the claim that makes it late."""
    payment_id = service.start()
    worker = orchestrator(service)
    [checked] = worker.advance(claims_max=1).turns
    [asked] = worker.advance([call(service, checked)]).turns
    late = call(service, asked)
    service.deliver(an_item())
    service.drain()

    advance = worker.advance([late], claims_max=1)

    assert advance.claimed == 1
    assert [turn.calls[0].record.step for turn in advance.turns] == ["booking_confirmation"]
    assert answered(service, "preauth") == 1
    facts = [data["kind"] for data in service.events(payment_id, "fact_recorded")]
    assert sorted(facts) == ["authorised", "pending"]
    assert service.discrepancies() == []


@pytest.mark.parametrize("is_turned", [False, True])
def test_of_two_answers_under_two_claims_of_one_worker_the_newer_claim_moves_the_saga(
    service: Service, *, is_turned: bool
) -> None:
    """F24, F26: the process stood still past its own lease, and nobody else took over."""
    payment_id = service.start()
    worker = orchestrator(service)
    [checked] = worker.advance(claims_max=1).turns
    [asked] = worker.advance([call(service, checked)]).turns
    service.advance(service.lease_seconds)
    [asked_again] = worker.advance(claims_max=1).turns
    called = [call(service, asked), call(service, asked_again)]

    advance = worker.advance(called[::-1] if is_turned else called)

    assert (advance.turns, advance.unsettled) == ([], [])
    assert answered(service, "preauth") == 2
    assert transactions_of_answers(service, "psp") == 1
    assert service.discrepancies() == []
    service.receive(an_item())
    assert service.path(payment_id) == ["preauth", "booking_confirmation", "email", "fin"]
    assert service.outside.psp.asked("authorise") == 2
    assert len(service.outside.psp.effects) == 1
    assert service.discrepancies() == []


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_step_that_is_answered_twice_at_once_moves_the_flow_once(
    service: Service, *, is_turned: bool
) -> None:
    """F24, F26."""
    payment_id = service.start()
    service.settle()
    service.deliver(an_item(psp_reference=PSP_REFERENCE))
    service.drain()
    worker = orchestrator(service)
    [asked] = worker.advance(claims_max=1).turns
    service.advance(service.lease_seconds)
    [asked_again] = worker.advance(claims_max=1).turns
    called = [call(service, asked), call(service, asked_again)]

    advance = worker.advance(called[::-1] if is_turned else called)

    assert [turn.calls[0].record.step for turn in advance.turns] == ["email"]
    assert service.path(payment_id) == ["preauth", "booking_confirmation", "email"]
    assert answered(service, "booking_confirmation") == 2
    assert transactions_of_answers(service, "booking") == 1
    assert service.discrepancies() == []
