"""Death at every crash point: nothing is lost, nothing acts twice (F4, F18, F21, F22, F23)."""

import pytest

from app import failpoints
from tests.support.builders import PSP_REFERENCE, a_webhook, an_item
from tests.support.service import Crash, Service, crash


def die_once_at(name: str) -> None:
    """Arm a crash that leaves the failpoint inert for whoever comes after."""

    def die() -> None:
        failpoints.disarm_all()
        crash()

    failpoints.arm(name, die)


def keys_of(service: Service, what: str) -> set[str]:
    calls = service.outside.psp.calls + service.outside.booking.calls
    return {key for called, key in calls if called == what}


def test_death_before_the_inbox_commits_stores_nothing(service: Service) -> None:
    die_once_at("inbox.before_commit")
    with pytest.raises(Crash):
        service.post_webhook(a_webhook())

    assert service.count("webhook_inbox") == 0
    assert service.post_webhook(a_webhook()).status_code == 200
    assert service.count("webhook_inbox") == 1


def test_death_after_the_inbox_committed_makes_the_retry_a_redelivery(service: Service) -> None:
    die_once_at("inbox.after_commit")
    with pytest.raises(Crash):
        service.post_webhook(a_webhook())

    assert service.count("webhook_inbox") == 1
    assert service.post_webhook(a_webhook()).status_code == 200
    assert service.count("webhook_inbox") == 1
    assert service.count("webhook_redeliveries") == 1


@pytest.mark.parametrize("name", ["drain.before_commit", "drain.after_commit"])
def test_death_in_the_drain_applies_the_webhook_once(service: Service, name: str) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(an_item())
    die_once_at(name)
    with pytest.raises(Crash):
        service.drain()

    service.settle()

    facts = [data["kind"] for data in service.events(payment_id, "fact_recorded")]
    assert facts.count("authorised") == 1
    assert service.payment(payment_id).state == "fin"
    assert service.work() == []


def test_death_before_the_drain_commits_keeps_the_work(service: Service) -> None:
    service.start()
    service.settle()
    service.deliver(an_item())
    die_once_at("drain.before_commit")
    with pytest.raises(Crash):
        service.drain()

    [work] = service.work()
    assert (work["state"], work["attempts"]) == ("new", 0)


#: Five calls, in four commits: both fraud checks stand side by side.
PLACES = [
    *(("saga.before_effect", place) for place in range(5)),
    *(("saga.after_effect", place) for place in range(5)),
    *(("saga.after_commit", place) for place in range(4)),
]


@pytest.mark.parametrize(("name", "place"), PLACES)
def test_death_in_a_step_ends_in_fin_with_each_effect_once(
    service: Service, name: str, place: int
) -> None:
    payment_id = service.start()
    passed = [0]

    def die() -> None:
        passed[0] += 1
        if passed[0] == place + 1:
            crash()

    failpoints.arm(name, die)
    deaths = 0
    for _turn in range(8):
        try:
            service.settle()
            if service.payment(payment_id).funds.authorised == 0:
                service.deliver(an_item())
        except Crash:
            deaths += 1
        service.advance(service.lease_seconds)

    assert deaths == 1
    assert service.payment(payment_id).state == "fin"
    assert service.outside.psp.effects.keys() == keys_of(service, "authorise")
    assert len(keys_of(service, "authorise")) == len(keys_of(service, "confirm")) == 1
    assert service.discrepancies() == []


def test_death_after_the_call_repeats_it_under_the_same_key(service: Service) -> None:
    service.outside.psp.before_answer = lambda: die_once_at("saga.after_effect")
    service.start()
    with pytest.raises(Crash):
        service.settle()
    service.outside.psp.before_answer = lambda: None

    service.later(service.lease_seconds)

    assert service.outside.psp.asked("authorise") == 2
    assert len(keys_of(service, "authorise")) == 1
    assert len(service.outside.psp.effects) == 1


def test_a_dead_workers_saga_is_left_alone_until_its_lease_ends(service: Service) -> None:
    die_once_at("saga.before_effect")
    service.start()
    with pytest.raises(Crash):
        service.settle()

    service.later(service.lease_seconds - 1)
    during = service.outside.fraud.asked("check")
    service.later(1)

    assert (during, service.outside.fraud.asked("check")) == (0, 1)


def test_death_while_undoing_undoes_once(service: Service) -> None:
    service.outside.booking.says_yes = False
    payment_id = service.start()
    service.settle()
    service.outside.psp.before_answer = lambda: die_once_at("saga.after_effect")
    service.deliver(an_item())
    with pytest.raises(Crash):
        service.settle()
    service.outside.psp.before_answer = lambda: None

    service.later(service.lease_seconds)
    service.receive(
        an_item("CANCELLATION", psp_reference="VOID1", original_reference=PSP_REFERENCE)
    )

    cancelled = [key for what, key in service.outside.psp.calls if what == "cancel"]
    assert len(cancelled) == 2
    assert len(set(cancelled)) == 1
    assert service.outside.booking.asked("cancel") == 1
    assert service.payment(payment_id).state == "compensated"


def test_a_webhook_is_applied_although_the_worker_died_holding_its_saga(service: Service) -> None:
    payment_id = service.start()
    service.outside.psp.before_answer = lambda: die_once_at("saga.after_effect")
    with pytest.raises(Crash):
        service.settle()
    service.outside.psp.before_answer = lambda: None

    service.receive(an_item())

    assert service.payment(payment_id).state == "fin"
    assert service.outside.psp.asked("authorise") == 1
