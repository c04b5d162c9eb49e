"""An operator's action races the webhook, the worker and another operator (F33, F29)."""

from uuid import UUID

import pytest

from app.domain.flow import FlowState
from app.errors import ActionForbidden
from app.services.operate import Remedy
from tests.support.builders import an_item
from tests.support.desk import BRING, cancellation, do, refused_undo
from tests.support.service import Service, at_once

PAYMENTS = 8


def asked(service: Service, what: str) -> int:
    return service.outside.psp.asked(what) + service.outside.booking.asked(what)


def refused(service: Service, payment_id: UUID, remedy: Remedy) -> bool:
    """Try it; tell whether the table forbade it."""
    try:
        do(service, payment_id, remedy)
    except ActionForbidden:
        return True
    return False


def test_a_webhook_after_the_abandoning_changes_the_funds_and_books_nothing(
    service: Service,
) -> None:
    payment_id = BRING[FlowState.PREAUTH](service)

    do(service, payment_id, Remedy.ABANDON)
    service.receive(an_item())
    service.receive(cancellation())

    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.held) == ("compensated", 0)
    assert asked(service, "confirm") == 0
    assert service.outside.psp.asked("cancel") == 1


def test_a_webhook_before_the_abandoning_is_undone_with_the_rest(service: Service) -> None:
    payment_id = BRING[FlowState.PREAUTH](service)
    service.deliver(an_item())
    service.drain()
    assert service.payment(payment_id).state == "booking_confirmation"

    do(service, payment_id, Remedy.ABANDON)
    service.settle()
    service.receive(cancellation())

    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.held) == ("compensated", 0)
    assert asked(service, "confirm") == 0


@pytest.mark.parametrize(
    ("party", "state"), [("psp", "preauth"), ("booking", "booking_confirmation")]
)
def test_a_worker_in_the_middle_of_a_call_loses_its_claim_and_its_answer_is_evidence(
    service: Service, party: str, state: str
) -> None:
    payment_id = service.start()
    if party == "booking":
        service.settle()
        service.deliver(an_item())
    fake = getattr(service.outside, party)

    def abandon() -> None:
        fake.before_answer = lambda: None
        assert service.payment(payment_id).state == state
        do(service, payment_id, Remedy.ABANDON)

    fake.before_answer = abandon
    service.settle()
    service.receive(an_item())
    service.receive(cancellation())

    assert service.payment(payment_id).state == "compensated"
    assert service.outside.booking.asked("cancel") == (1 if party == "booking" else 0)
    assert service.outside.psp.asked("cancel") >= 1
    answered = [data["step"] for data in service.events(payment_id, "step_answered")]
    assert state in answered
    assert service.discrepancies() == []


def test_abandoning_races_the_webhook_and_the_worker_and_either_wins_wholly(
    service: Service,
) -> None:
    references = [f"ORDER-{number}" for number in range(PAYMENTS)]
    named = {reference: f"PSP{number}" for number, reference in enumerate(references)}
    service.outside.psp.references = named
    ids = [service.start(merchant_reference=reference) for reference in references]
    service.settle()
    for ours, theirs in named.items():
        service.deliver(an_item(merchant_reference=ours, psp_reference=theirs))

    def operator(payment_id: UUID) -> bool:
        return refused(service, payment_id, Remedy.ABANDON)

    def work() -> bool:
        service.settle()
        return False

    was_refused = at_once([*(lambda one=one: operator(one) for one in ids), work, work])[:PAYMENTS]
    service.later(60)  # a webhook that met a locked payment is put off for a while
    voids = [
        an_item(
            "CANCELLATION",
            psp_reference=f"VOID{number}",
            original_reference=f"PSP{number}",
            event_date="2026-11-20T10:30:00+01:00",
        )
        for number, was in enumerate(was_refused)
        if not was
    ]
    service.receive(*voids)

    ends = [service.payment(payment_id).state for payment_id in ids]
    assert ends == ["fin" if was else "compensated" for was in was_refused]
    assert service.count("operator_actions") == was_refused.count(False)
    assert service.sagas_without_a_future() == []
    assert service.discrepancies() == []
    assert service.work() == []


@pytest.mark.parametrize("remedy", [Remedy.RESUME, Remedy.SKIP])
def test_two_operators_at_once_do_it_once(service: Service, remedy: Remedy) -> None:
    payment_id = refused_undo(service)

    was_refused = at_once([lambda: refused(service, payment_id, remedy)] * 6)

    assert was_refused.count(False) == 1
    assert service.count("operator_actions") == 1
    assert len(service.events(payment_id, "transition_refused")) == 5
    assert service.discrepancies() == []


def test_resuming_races_the_webhook_that_settles_it(service: Service) -> None:
    payment_id = refused_undo(service)
    service.deliver(cancellation(reference="BYHAND"))

    def resume() -> None:
        do(service, payment_id, Remedy.RESUME)

    at_once([resume, service.drain])
    service.settle()
    service.later(60)
    service.receive(cancellation(reference="MODCANCEL2"))

    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.held) == ("compensated", 0)
    assert service.discrepancies() == []
