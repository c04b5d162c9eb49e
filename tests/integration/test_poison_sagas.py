"""A saga that can't be moved is left alone, and its neighbours in the same batch move on (F19).

Promise 4: one payment's trouble is one payment's trouble.
"""

import logging

import pytest

from app.sagas.orchestrator import FAILED_WAIT
from tests.support.builders import an_item
from tests.support.runners import call, orchestrator, run_all
from tests.support.service import Row, Service

WAIT = FAILED_WAIT.total_seconds()

#: What spoils a payment, and what mends it.
SPOILS = {
    "a state that the flow does not know": (
        "UPDATE payments SET state = 'nonsense' WHERE merchant_reference = 'POISON'",
        "UPDATE payments SET state = 'fraud_check' WHERE merchant_reference = 'POISON'",
    ),
    "facts that are none": (
        """UPDATE payments SET facts = '[{"kind": "nonsense"}]'
            WHERE merchant_reference = 'POISON'""",
        "UPDATE payments SET facts = '[]' WHERE merchant_reference = 'POISON'",
    ),
    "an amount that is lost": (
        "UPDATE payments SET currency = 'NONE' WHERE merchant_reference = 'POISON'",
        "UPDATE payments SET currency = 'EUR' WHERE merchant_reference = 'POISON'",
    ),
    "a step that no step is": (
        """INSERT INTO saga_steps (saga_id, step, direction, status, round, attempts,
                                   idempotency_key, response, started_at, asked_at, updated_at)
           SELECT saga_id, 'fraud_check', 'act', 'nonsense', 1, 1, 'key', '{}', s.created_at,
                  s.created_at, s.created_at
             FROM saga_instances s JOIN payments USING (payment_id)
            WHERE merchant_reference = 'POISON' ON CONFLICT (saga_id, step, direction)
               DO UPDATE SET status = 'nonsense'""",
        "DELETE FROM saga_steps WHERE status = 'nonsense'",
    ),
}
spoils = pytest.mark.parametrize(("spoil", "mend"), SPOILS.values(), ids=SPOILS.keys())


def start_three(service: Service) -> None:
    for reference in ("FIRST", "POISON", "LAST"):
        service.start(merchant_reference=reference)


def states(service: Service) -> dict[str, str]:
    rows = service.rows("SELECT merchant_reference, state FROM payments")
    return {row["merchant_reference"]: row["state"] for row in rows}


def the_poisoned(service: Service) -> Row:
    [saga] = service.rows(
        "SELECT s.* FROM saga_instances s JOIN payments USING (payment_id)"
        " WHERE merchant_reference = 'POISON'"
    )
    return saga


@spoils
def test_poison_among_what_is_due_does_not_keep_its_neighbours(
    service: Service, caplog: pytest.LogCaptureFixture, spoil: str, mend: str
) -> None:
    start_three(service)
    service.execute(spoil)
    worker = orchestrator(service)

    with caplog.at_level(logging.ERROR):
        advance = worker.advance(claims_max=3)

    assert (advance.claimed, len(advance.turns)) == (3, 2)
    assert len({turn.claim.payment_id for turn in advance.turns}) == 2
    saga = the_poisoned(service)
    assert (saga["due"] - service.clock.now()).total_seconds() == WAIT
    assert (saga["owner"], saga["lease_until"]) == (None, None)
    [record] = [one for one in caplog.records if "left alone" in one.getMessage()]
    assert vars(record)["payment_id"] == str(saga["payment_id"])
    assert worker.advance(claims_max=3).claimed == 0
    service.execute(mend)


@spoils
def test_poison_among_what_came_back_does_not_keep_its_neighbours(
    service: Service, spoil: str, mend: str
) -> None:
    start_three(service)
    worker = orchestrator(service)
    called = [call(service, turn) for turn in worker.advance(claims_max=3).turns]
    service.execute(spoil)

    advance = worker.advance(called)

    assert len(advance.turns) == 2
    assert states(service)["FIRST"] == states(service)["LAST"] == "preauth"
    saga = the_poisoned(service)
    assert (saga["due"] - service.clock.now()).total_seconds() == WAIT
    assert (saga["owner"], saga["lease_until"]) == (None, None)
    service.execute(mend)


@spoils
def test_what_is_mended_goes_on_by_itself_when_its_time_has_come(
    service: Service, spoil: str, mend: str
) -> None:
    """F36: it is never without a time to look at it again."""
    start_three(service)
    service.execute(spoil)
    run_all(service)
    service.execute(mend)
    before = states(service)["POISON"]
    service.later(WAIT - 1)
    meanwhile = states(service)["POISON"]
    service.later(1)
    service.receive(
        *(
            an_item(psp_reference=f"PSP-{one}", merchant_reference=one)
            for one in ("FIRST", "POISON", "LAST")
        )
    )

    assert (before, meanwhile) == ("fraud_check", "fraud_check")
    assert states(service) == dict.fromkeys(["FIRST", "POISON", "LAST"], "fin")
    assert service.outside.psp.asked("authorise") == 3


def test_poison_is_looked_at_once_a_minute_not_in_a_loop(service: Service) -> None:
    start_three(service)
    service.execute(SPOILS["facts that are none"][0])
    run_all(service)

    looked = []
    for _ in range(3):
        service.advance(WAIT)
        looked.append(service.container.runner.run_next())
        looked.append(service.container.runner.run_next())

    assert looked == [True, False] * 3


def test_a_mistake_in_the_claim_itself_is_no_sagas_fault_and_is_told(service: Service) -> None:
    service.start()
    service.execute("ALTER TABLE saga_instances RENAME COLUMN owner TO nobody")

    with pytest.raises(Exception, match="owner"):
        service.container.runner.run_next()
