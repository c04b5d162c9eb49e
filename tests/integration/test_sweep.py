"""The sweep: finds what is stuck, and moves it by the saga's own rules (F14, F44)."""

from datetime import timedelta

import pytest

from reconciliation.sweep import Action
from tests.support.builders import ACCOUNT, PSP_REFERENCE, an_item
from tests.support.service import Service, at_once

WINDOW_SECONDS = 900
DAY = 24 * 3600


def snapshot(service: Service) -> list[object]:
    tables = ("payments", "payment_events", "saga_instances", "saga_steps", "inbox_work", "breaks")
    return [sorted(map(repr, service.rows(f"SELECT * FROM {table}"))) for table in tables]


def test_a_plan_changes_nothing(service: Service) -> None:
    service.start()
    service.settle()
    service.deliver(an_item(merchant_reference="THEIRS"))
    before = snapshot(service)

    findings = service.sweep().plan(as_of=service.clock.at + timedelta(days=1))

    assert len(findings) == 2
    assert snapshot(service) == before


def test_the_same_rows_and_time_give_the_same_plan(service: Service) -> None:
    for number in range(5):
        service.start(merchant_reference=f"ORDER-{number}")
    service.settle()
    as_of = service.clock.at + timedelta(days=1)

    assert service.sweep().plan(as_of=as_of) == service.sweep().plan(as_of=as_of)


def test_nothing_is_stuck_while_patience_lasts(service: Service) -> None:
    service.start()
    service.settle()

    assert service.sweep_once() == []
    assert service.sweep_once(in_seconds=WINDOW_SECONDS - 1) == []


def test_a_lost_webhook_is_found_from_a_later_time_and_compensated(service: Service) -> None:
    payment_id = service.start()
    service.settle()

    [finding] = service.sweep_once(in_seconds=DAY)

    assert (finding.rule, finding.action) == ("S3", Action.COMPENSATE)
    assert service.payment(payment_id).state == "compensating"
    assert service.outside.psp.asked("cancel") == 1


def test_what_a_sweep_writes_is_dated_now_not_then(service: Service) -> None:
    payment_id = service.start()
    service.settle()

    service.sweep_once(in_seconds=DAY)

    assert service.payment(payment_id).updated_at == service.clock.at


def test_an_undo_that_a_sweep_began_is_asked_for_again_in_time(service: Service) -> None:
    service.start()
    service.settle()
    service.sweep_once(in_seconds=DAY)

    service.later(60)

    assert service.outside.psp.asked("cancel") == 2


def test_a_stored_webhook_that_nobody_applied_is_applied(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(an_item())
    service.advance(600)

    findings = service.sweep_once()

    assert [finding.rule for finding in findings] == ["S1"]
    service.settle()
    assert service.payment(payment_id).state == "fin"


def test_a_stored_webhook_beats_the_deadline_that_a_sweep_sees(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(an_item())

    service.sweep_once(in_seconds=DAY)
    service.settle()

    assert service.payment(payment_id).state == "fin"
    assert service.outside.psp.asked("cancel") == 0


def test_a_sweep_without_any_worker_finishes_a_payment(service: Service) -> None:
    payment_id = service.start()
    service.advance(600)
    service.sweep_once()
    service.deliver(an_item())
    service.advance(600)
    service.sweep_once()
    service.advance(600)
    service.sweep_once()

    assert service.payment(payment_id).state == "fin"


def test_a_second_sweep_finds_nothing_left(service: Service) -> None:
    service.start()
    service.settle()
    service.sweep_once(in_seconds=DAY)
    service.receive(an_item("CANCELLATION", psp_reference="V", original_reference=PSP_REFERENCE))

    assert service.sweep_once() == []


def test_a_sweep_of_one_account_leaves_the_others(service: Service) -> None:
    service.start()
    service.settle()
    as_of = service.clock.at + timedelta(days=1)

    mine = service.sweep().plan(as_of=as_of, merchant_account=ACCOUNT)
    theirs = service.sweep().plan(as_of=as_of, merchant_account="OtherECOM")

    assert (len(mine), len(theirs)) == (1, 0)


def test_sweeps_at_once_ask_for_one_void(service: Service) -> None:
    service.start()
    service.settle()

    at_once([lambda: service.sweep_once(in_seconds=DAY)] * 3)

    keys = {key for what, key in service.outside.psp.calls if what == "cancel"}
    assert len(keys) == 1


@pytest.mark.parametrize("in_seconds", [0, DAY])
def test_a_sweep_leaves_a_saga_alone_that_a_worker_is_at(service: Service, in_seconds: int) -> None:
    payment_id = service.start()
    service.settle()

    def sweep_meanwhile() -> None:
        service.outside.mail.before_answer = lambda: None
        at_once([lambda: service.sweep_once(in_seconds=in_seconds)])

    service.outside.mail.before_answer = sweep_meanwhile
    service.receive(an_item())

    assert service.outside.mail.asked("send") == 1
    assert service.events(payment_id, "flow_moved")[-1]["event"] == "mail_sent"
