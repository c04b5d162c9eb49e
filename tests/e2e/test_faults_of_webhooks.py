"""What may happen to a webhook, on real processes: F10, F11, F12, F17, F18, F19, F20.

Goal: promises 1, 2 and 7 of the README hold while processes die. Method: a sender does as the PSP
does and delivers each webhook until it is acknowledged; then what was acknowledged, what is on disk
and what moved a payment are counted, and must be the same webhooks, each once.

Webhooks of payments that are not here yet are in tests/integration/test_drain.py.
"""

from functools import partial
from itertools import cycle, permutations
from random import Random

import pytest

from tests.support.builders import a_webhook, an_item, signed, unsigned_webhook
from tests.support.deliveries import Load, a_load, deliver, deliver_bytes
from tests.support.instance import eventually
from tests.support.processes import Fleet
from tests.support.service import at_once

KILLS = 3
BACKLOG = 2000


def assert_each_moved_once(fleet: Fleet, load: Load) -> None:
    """Count what was acknowledged, what is on disk, and what moved a payment."""
    fleet.await_drained(load.prefix)
    assert load.acknowledged == fleet.stored(load.prefix)
    assert load.acknowledged == fleet.moved(load.prefix)


def authorisations(fleet: Fleet, prefix: str) -> list[tuple[int, int]]:
    """Return what is authorised of each payment, and the number of facts that say so."""
    return [
        (authorised, facts)
        for authorised, facts in fleet.ask(
            "SELECT authorised, jsonb_array_length(facts) FROM payments"
            " WHERE psp_reference LIKE %(like)s",
            like=f"{prefix}%",
        )
    ]


def test_an_event_that_comes_twice_at_once_on_two_web_processes_changes_its_payment_once(
    fleet: Fleet,
) -> None:
    """F10, promise 2: many events, both deliveries of each at once, beside other traffic."""
    references = [f"F10-{number:03}" for number in range(100)]
    with a_load("F10LOAD", fleet.ports) as load:
        statuses = [
            at_once([partial(deliver, port, an_item(psp_reference=one)) for port in fleet.ports])
            for one in references
        ]
    fleet.await_drained("F10-")

    assert statuses == [[200, 200]] * len(references)
    assert fleet.stored("F10-") == references
    assert fleet.redelivered("F10-") == references
    assert fleet.moved("F10-") == references
    assert_each_moved_once(fleet, load)


def test_an_outcome_that_comes_again_with_other_unsigned_fields_changes_its_payment_once(
    fleet: Fleet,
) -> None:
    """F11, promise 2: before and after it was applied, on both web processes."""
    variants = [
        an_item(psp_reference="F11", reason=f"reason {number}", event_date=event_date)
        for number, event_date in enumerate(
            [
                "2026-11-20T10:00:00+01:00",
                "2026-11-20T10:00:07+01:00",
                "2026-11-20T09:00:00+01:00",
                "2026-11-21T10:00:00+01:00",
            ]
        )
    ]
    statuses = []
    for _before_and_after in range(2):
        statuses += at_once(
            [
                partial(deliver, port, variant)
                for port, variant in zip(cycle(fleet.ports), variants, strict=False)
            ]
        )
        fleet.await_drained("F11")

    assert statuses == [200] * 8
    assert fleet.stored("F11") == ["F11"]
    assert fleet.redelivered("F11") == ["F11"] * 7
    assert authorisations(fleet, "F11") == [(12500, 1)]


def test_every_order_of_a_payments_events_ends_in_the_same_funds(fleet: Fleet) -> None:
    """F12, promise 2: a refusal, then a success, a capture and a part refund; one comes again."""
    choices = Random(12)
    orders = list(permutations(range(4)))
    for number, order in enumerate(orders):
        payment = f"F12-{number:02}"
        events = [
            an_item(success=False, psp_reference=payment),
            an_item(psp_reference=payment),
            an_item("CAPTURE", psp_reference=f"{payment}-C", original_reference=payment),
            an_item(
                "REFUND",
                psp_reference=f"{payment}-R",
                original_reference=payment,
                amount_minor=2500,
            ),
        ]
        for place in (*order, choices.choice(order)):
            assert deliver(choices.choice(fleet.ports), events[place]) == 200
    fleet.await_drained("F12-")

    found = fleet.ask(
        "SELECT funds_status, authorised, captured, refunded FROM payments"
        " WHERE psp_reference LIKE 'F12-%%'"
    )
    assert found == [("partially_refunded", 12500, 12500, 2500)] * len(orders)
    assert len(fleet.moved("F12-")) == 4 * len(orders)


def test_what_is_not_authentic_is_refused_and_what_is_replayed_changes_nothing(
    fleet: Fleet,
) -> None:
    """F17, promise 7: a bad signature, an altered byte, a forged second item, a replayed body."""
    port = fleet.ports[0]
    real = signed(an_item(psp_reference="F17"))
    forged = {**signed(an_item(psp_reference="F17F")), "amount": {"value": 1, "currency": "EUR"}}
    body = unsigned_webhook(real)
    assert deliver_bytes(port, body) == 200
    fleet.await_drained("F17")
    [(stored,)] = fleet.ask("SELECT count(*) FROM webhook_inbox")

    refused = [
        deliver_bytes(port, a_webhook(an_item(psp_reference="F17X"), key=b"\0" * 32)),
        deliver_bytes(port, unsigned_webhook(an_item(psp_reference="F17X"))),
        deliver_bytes(port, unsigned_webhook(real, forged)),
        deliver_bytes(port, unsigned_webhook(forged, real)),
    ]
    altered = {
        deliver_bytes(port, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])
        for place in Random(17).sample(range(len(body)), 60)
    }
    replayed = [deliver_bytes(port, body) for port in fleet.ports]
    fleet.await_drained("F17")

    assert refused == [401] * 4
    assert altered <= {200, 400, 401}  # 200: the byte is unsigned, and so is no new fact
    assert replayed == [200, 200]
    assert fleet.ask("SELECT count(*) FROM webhook_inbox") == [(stored,)]
    assert authorisations(fleet, "F17") == [(12500, 1)]


def test_every_acknowledged_webhook_outlives_kill_9_of_every_process_under_load(
    fleet: Fleet,
) -> None:
    """F18, promise 1: at random instants web and worker die, and all that got a 200 is on disk."""
    instants = Random(18)
    with a_load("F18LOAD", fleet.ports) as load:
        for _kill in range(KILLS):
            load.await_acknowledged(instants.randint(20, 200))
            fleet.kill_9()
            acknowledged = set(load.acknowledged)

            assert acknowledged <= set(fleet.stored(load.prefix))

            fleet.start()
        load.await_acknowledged(100)

    assert_each_moved_once(fleet, load)
    assert set(load.statuses) == {200, None}


@pytest.mark.parametrize(
    ("failpoint", "stored"), [("inbox.before_commit", False), ("inbox.after_commit", True)]
)
def test_kill_9_of_web_around_the_commit_acknowledges_nothing_and_the_redelivery_is_one(
    fleet: Fleet, failpoint: str, *, stored: bool
) -> None:
    """F18, promises 1 and 2: without a 200 the PSP comes again, whether it is on disk or not."""
    reference = f"F18-{failpoint}"
    doomed = fleet.another_web(COUNTERSIGN_FAILPOINTS=f"{failpoint}=kill")
    doomed.start()
    try:
        eventually(doomed.is_ready)
        answer = deliver(doomed.port, an_item(psp_reference=reference))
    finally:
        doomed.kill_9()
    after_the_kill = fleet.stored(reference)
    again = deliver(fleet.ports[0], an_item(psp_reference=reference))
    fleet.await_drained(reference)

    assert (answer, again) == (None, 200)
    assert after_the_kill == [reference] * stored
    assert fleet.redelivered(reference) == [reference] * stored
    assert fleet.moved(reference) == [reference]


@pytest.mark.parametrize(
    ("failpoint", "moved"), [("drain.before_commit", False), ("drain.after_commit", True)]
)
def test_kill_9_of_the_worker_around_its_commit_applies_every_webhook_once(
    fleet: Fleet, failpoint: str, *, moved: bool
) -> None:
    """F18, promises 1 and 2: what the dead worker had in hand is the next one's work at once."""
    references = [f"F18-{failpoint}-{number:02}" for number in range(30)]
    fleet.worker.kill_9()
    statuses = {
        deliver(port, an_item(psp_reference=one))
        for port, one in zip(cycle(fleet.ports), references, strict=False)
    }
    doomed = fleet.another("worker", COUNTERSIGN_FAILPOINTS=f"{failpoint}=kill")
    doomed.start()
    code = doomed.wait()
    after_the_kill = fleet.moved(f"F18-{failpoint}")
    fleet.start()
    fleet.await_drained(f"F18-{failpoint}")

    assert (statuses, code) == ({200}, -9)
    assert after_the_kill == references * moved
    assert fleet.moved(f"F18-{failpoint}") == references


def test_poison_stops_neither_the_worker_nor_its_neighbours(fleet: Fleet) -> None:
    """F19, promises 2 and 3: those that came with it and after it are applied while it waits."""
    fleet.worker.kill_9()
    with a_load("F19", fleet.ports) as load:
        load.await_acknowledged(150)
    poison = load.acknowledged[::30]
    fleet.ask(
        "UPDATE webhook_inbox SET body = 'poison' WHERE psp_reference = ANY(%(poison)s)",
        poison=poison,
    )
    fleet.start()
    eventually(lambda: fleet.waiting("F19") == poison)
    with a_load("F19LATER", fleet.ports) as later:
        later.await_acknowledged(150)

    assert_each_moved_once(fleet, later)
    assert fleet.moved("F19-") == sorted({*load.acknowledged} - {*poison})
    states = fleet.ask(
        "SELECT DISTINCT w.state, w.attempts > 0 FROM inbox_work w JOIN webhook_inbox USING (guid)"
        " WHERE psp_reference LIKE 'F19-%%'"
    )
    assert states == [("new", True)], "the others did not wait until it was given up"


def test_while_workers_are_down_every_webhook_is_taken_and_the_backlog_drains_in_order(
    fleet: Fleet,
) -> None:
    """F20, promise 1: the intake needs no worker, and the first one that comes back has it all."""
    fleet.worker.kill_9()
    with a_load("F20", fleet.ports) as load:
        load.await_acknowledged(BACKLOG)
    waited = fleet.waiting("F20")
    fleet.start()

    assert_each_moved_once(fleet, load)
    assert set(load.statuses) == {200}
    assert waited == load.acknowledged
    applied_at = [
        applied_at
        for _received_at, applied_at in fleet.ask(
            "SELECT i.received_at, p.created_at FROM webhook_inbox i JOIN payments p"
            " USING (psp_reference) WHERE psp_reference LIKE 'F20%%' ORDER BY 1, 2"
        )
    ]
    assert applied_at == sorted(applied_at)
