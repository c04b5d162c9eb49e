"""Many sagas share a transaction, and none of them waits for another (F24, F25, F26, F37).

What is asked of an orchestrator here is what every worker asks of its own, in turns that a test
makes by hand: claim, call, settle.
"""

from functools import partial

from sqlalchemy import text

from app.errors import GatewayUnavailable
from tests.support.builders import an_item
from tests.support.runners import call, orchestrator, run_all
from tests.support.service import Row, Service, at_once

NUMBER = 8


def start_many(service: Service) -> list[str]:
    references = [f"ORDER-{number}" for number in range(NUMBER)]
    for reference in references:
        service.start(merchant_reference=reference)
    return references


def transactions(service: Service, rows: str) -> int:
    """Count the transactions that wrote these rows."""
    [row] = service.rows(f"SELECT count(DISTINCT xmin::text) AS n, count(*) AS rows FROM {rows}")
    assert row["rows"] >= NUMBER
    return int(row["n"])


def sagas(service: Service) -> list[Row]:
    return service.rows(
        "SELECT merchant_reference, owner, lease_until, due, s.version FROM saga_instances s"
        " JOIN payments USING (payment_id) ORDER BY merchant_reference"
    )


def test_sagas_that_are_due_together_are_claimed_and_planned_in_one_transaction(
    service: Service,
) -> None:
    start_many(service)

    advance = orchestrator(service).advance(claims_max=NUMBER)

    assert (advance.claimed, len(advance.turns)) == (NUMBER, NUMBER)
    assert {len(turn.calls) for turn in advance.turns} == {2}
    assert transactions(service, "commands") == 1
    assert transactions(service, "saga_steps") == 1


def test_replies_that_came_together_are_settled_in_one_transaction(service: Service) -> None:
    start_many(service)
    worker = orchestrator(service)
    called = [call(service, turn) for turn in worker.advance(claims_max=NUMBER).turns]

    advance = worker.advance(called)

    assert transactions(service, "responses") == 1
    assert transactions(service, "payment_events WHERE kind = 'flow_moved'") == 1
    assert {turn.calls[0].record.step for turn in advance.turns} == {"preauth"}


def test_replies_and_what_is_due_share_a_transaction(service: Service) -> None:
    first = start_many(service)[: NUMBER // 2]
    worker = orchestrator(service)
    called = [call(service, turn) for turn in worker.advance(claims_max=len(first)).turns]

    advance = worker.advance(called, claims_max=NUMBER)

    steps = [turn.calls[0].record.step for turn in advance.turns]
    assert steps == ["preauth"] * len(first) + ["fraud_check"] * (NUMBER - len(first))
    written = f"""(
        SELECT xmin FROM saga_steps WHERE updated_at = '{service.clock.now()}'
         AND step IN ('preauth', 'fraud_rules')
         AND (step = 'preauth' OR status = 'asked')) AS written"""
    assert transactions(service, written) == 1


def test_those_due_longest_are_claimed_first(service: Service) -> None:
    for number in range(NUMBER):
        service.start(merchant_reference=f"ORDER-{number}")
        service.advance(1)

    advance = orchestrator(service).advance(claims_max=2)

    owned = [saga["merchant_reference"] for saga in sagas(service) if saga["owner"]]
    assert advance.claimed == 2
    assert owned == ["ORDER-0", "ORDER-1"]


def test_a_payment_that_is_locked_elsewhere_makes_only_its_own_reply_wait(
    service: Service,
) -> None:
    """F37: no row is waited for while others could move."""
    references = start_many(service)
    worker = orchestrator(service)
    called = [call(service, turn) for turn in worker.advance(claims_max=NUMBER).turns]
    locked = called[3].turn.claim.payment_id

    with service.container.engine.connect() as holder:
        holder.execute(
            text("SELECT 1 FROM payments WHERE payment_id = :id FOR UPDATE"), {"id": locked}
        )
        advance = worker.advance(called)

    assert advance.unsettled == [called[3]]
    assert len(advance.turns) == len(references) - 1
    assert service.payment(locked).state == "fraud_check"
    [turn] = worker.advance(advance.unsettled).turns
    assert turn.claim.payment_id == locked
    assert service.payment(locked).state == "preauth"
    assert service.outside.fraud.asked("check") == NUMBER


def test_a_due_saga_whose_payment_is_locked_elsewhere_is_passed_over(service: Service) -> None:
    start_many(service)
    [row] = service.rows("SELECT payment_id FROM payments WHERE merchant_reference = 'ORDER-3'")

    with service.container.engine.connect() as holder:
        holder.execute(
            text("SELECT 1 FROM payments WHERE payment_id = :id FOR UPDATE"),
            {"id": row["payment_id"]},
        )
        meanwhile = orchestrator(service).advance(claims_max=NUMBER).claimed

    assert meanwhile == NUMBER - 1
    assert orchestrator(service).advance(claims_max=NUMBER).claimed == 1


def test_workers_at_once_share_the_sagas_and_no_two_get_one(service: Service) -> None:
    """F25."""
    start_many(service)
    workers = [orchestrator(service, owner=f"worker {number}") for number in range(4)]

    advances = at_once([partial(worker.advance, claims_max=NUMBER) for worker in workers])
    left = orchestrator(service).advance(claims_max=NUMBER)

    claimed = [turn.claim.saga_id for advance in (*advances, left) for turn in advance.turns]
    assert len(claimed) == len(set(claimed)) == NUMBER
    assert {saga["version"] for saga in sagas(service)} == {2}


def test_one_saga_has_one_worker_however_many_want_it(service: Service) -> None:
    """F25."""
    service.start()
    workers = [orchestrator(service, owner=f"worker {number}") for number in range(8)]

    advances = at_once([partial(worker.advance, claims_max=1) for worker in workers])

    assert sum(advance.claimed for advance in advances) == 1
    [saga] = sagas(service)
    assert saga["owner"] in {f"worker {number}" for number in range(8)}


def test_a_worker_that_overslept_its_lease_writes_evidence_and_moves_nothing(
    service: Service,
) -> None:
    """F24, F26: the one that took over has moved the saga; this answer is kept, and that is all."""
    payment_id = service.start()
    sleeper, other = orchestrator(service, owner="sleeper"), orchestrator(service, owner="other")
    [turn] = sleeper.advance(claims_max=1).turns
    overslept = call(service, turn)
    service.advance(service.lease_seconds)
    [taken_over] = other.advance(claims_max=1).turns
    other.advance([call(service, taken_over)])
    before = (sagas(service), service.rows("SELECT * FROM saga_steps ORDER BY step, direction"))

    advance = sleeper.advance([overslept])

    assert (advance.turns, advance.unsettled) == ([], [])
    assert before == (
        sagas(service),
        service.rows("SELECT * FROM saga_steps ORDER BY step, direction"),
    )
    assert service.path(payment_id) == ["preauth"]
    answered = service.events(payment_id, "step_answered")
    assert [data["step"] for data in answered] == ["fraud_check", "fraud_rules"] * 2
    assert service.count("responses") == 4
    assert len(service.outside.fraud.effects) == 1
    assert service.discrepancies() == []


def test_a_sleepers_answer_to_the_authorisation_still_names_the_payment(service: Service) -> None:
    """F24: evidence commits on its own, also of the money: another attempt was refused, not it."""
    payment_id = service.start()
    worker = orchestrator(service)
    [turn] = worker.advance(claims_max=1).turns
    [asked] = worker.advance([call(service, turn)]).turns
    overslept = call(service, asked)
    service.deliver(an_item(success=False, psp_reference="OTHER-ATTEMPT"))
    service.drain()

    worker.advance([overslept])

    payment = service.payment(payment_id)
    assert payment.funds.tells_of("8816178914079738")
    assert (payment.state, payment.reason) == ("compensating", "answer_came_late")
    assert service.open_breaks() == ["LATE_SUCCESS"]


def test_a_turn_renews_the_lease_with_every_step(service: Service) -> None:
    service.start()
    worker = orchestrator(service)
    [turn] = worker.advance(claims_max=1).turns
    [before] = sagas(service)
    service.advance(service.lease_seconds - 1)
    worker.advance([call(service, turn)])
    [after] = sagas(service)

    assert (after["lease_until"] - before["lease_until"]).total_seconds() == (
        service.lease_seconds - 1
    )
    assert (before["version"], after["version"]) == (2, 3)


def test_a_fact_that_wakes_a_saga_is_no_reason_to_ask_again_early(service: Service) -> None:
    """F37: it is looked at at once, and the step keeps its time."""
    service.outside.booking.failures = [GatewayUnavailable("503")]
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    [before] = sagas(service)
    service.execute("UPDATE saga_instances SET due = :now", now=service.clock.now())

    run_all(service)

    [after] = sagas(service)
    assert service.payment(payment_id).state == "booking_confirmation"
    assert service.outside.booking.asked("confirm") == 1
    assert after["due"] == before["due"]
