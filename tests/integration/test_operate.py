"""What an operator may do, from where, and what comes of it (F29): audited, and never twice."""

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app.domain.flow import REST_STATES, FlowState
from app.domain.operators import Grounds
from app.errors import (
    ActionForbidden,
    GatewayRejected,
    GatewayTimeout,
    GatewayUnavailable,
    InvalidFields,
    PaymentChanged,
    PaymentNotFound,
    ReviewNotFound,
)
from app.queries.timeline import timeline
from app.services.assign_review import assign_review
from app.services.operate import FORCED, Remedy
from tests.support.builders import PAYMENT_ID, PSP_REFERENCE, an_item
from tests.support.desk import (
    BRING,
    DAY,
    GROUNDS,
    OPERATOR,
    REASON,
    cancellation,
    captured,
    do,
    refused_undo,
    unresolved_capture,
)
from tests.support.service import Row, Service

S = FlowState

#: Where each remedy applies; everywhere else it is refused.
APPLIES = {
    Remedy.RESUME: {S.MANUAL_REVIEW},
    Remedy.SKIP: {S.MANUAL_REVIEW},
    Remedy.FORCE: {S.MANUAL_REVIEW},
    Remedy.ABANDON: {
        S.FRAUD_CHECK,
        S.PREAUTH,
        S.BOOKING_CONFIRMATION,
        S.CAPTURE,
        S.MANUAL_REVIEW,
    },
}


def keys(service: Service, what: str) -> list[str]:
    return [key for called, key in service.outside.psp.calls if called == what]


def open_reviews(service: Service) -> list[Row]:
    return service.rows("SELECT * FROM reviews WHERE closed_at IS NULL")


def audit(service: Service) -> list[Row]:
    return service.rows("SELECT * FROM operator_actions ORDER BY at, action_id")


def titles(service: Service, payment_id: UUID) -> list[str]:
    with service.container.engine.connect() as connection:
        items = timeline(connection, payment_id)["items"]
    assert isinstance(items, list)
    return [item["title"] for item in items]


@pytest.mark.parametrize("state", FlowState)
@pytest.mark.parametrize("remedy", Remedy)
def test_a_remedy_applies_where_the_table_has_a_row_and_is_refused_everywhere_else(
    service: Service, remedy: Remedy, state: FlowState
) -> None:
    payment_id = BRING[state](service)
    before = service.payment(payment_id)
    assert before.state is state
    to = S.FIN if remedy is Remedy.FORCE else None

    if state in APPLIES[remedy]:
        do(service, payment_id, remedy, to)
        assert service.payment(payment_id).state is not state
        assert [line["action"] for line in audit(service)] == [remedy]
    else:
        with pytest.raises(ActionForbidden):
            do(service, payment_id, remedy, to)
        assert service.payment(payment_id).state is state
        assert audit(service) == []
        [refused] = service.events(payment_id, "transition_refused")
        assert (refused["operator"], refused["reason"]) == (OPERATOR, REASON)
    assert service.discrepancies() == []
    assert service.sagas_without_a_future() == []


@pytest.mark.parametrize("state", sorted(APPLIES[Remedy.ABANDON]))
def test_what_is_abandoned_is_undone_wholly_from_wherever_it_was(
    service: Service, state: FlowState
) -> None:
    payment_id = BRING[state](service)

    do(service, payment_id, Remedy.ABANDON)
    service.settle()
    service.receive(
        an_item(),
        cancellation(reference="MODCANCEL2" if state is S.MANUAL_REVIEW else "MODCANCEL"),
        an_item("CANCEL_OR_REFUND", psp_reference="MODREVERSE", original_reference=PSP_REFERENCE),
    )
    for _day in range(2):
        service.later(DAY)

    assert service.payment(payment_id).state == "compensated"
    assert service.payment(payment_id).funds.held == service.payment(payment_id).funds.kept == 0
    confirmed = service.outside.booking.effects.values()
    assert ("confirm" in confirmed) == ("cancel" in confirmed)
    assert service.discrepancies() == []


def test_an_abandoned_payment_says_so(service: Service) -> None:
    payment_id = BRING[S.PREAUTH](service)

    payment = do(service, payment_id, Remedy.ABANDON)

    assert (payment.state, payment.reason) == ("compensating", "abandoned")
    assert titles(service, payment_id)[-1] == (
        f"Abandoned: preauth → compensating, by {OPERATOR}: {REASON}"
    )


@pytest.mark.parametrize("state", [S.EMAIL, S.FIN])
def test_what_is_sold_is_refunded_not_abandoned(service: Service, state: FlowState) -> None:
    payment_id = BRING[state](service)

    with pytest.raises(ActionForbidden, match="refund it instead"):
        do(service, payment_id, Remedy.ABANDON)


def test_an_undo_that_fails_for_good_lies_on_a_named_persons_desk(service: Service) -> None:
    payment_id = refused_undo(service)

    [review] = open_reviews(service)
    assert review["payment_id"] == payment_id
    assert (review["owner"], review["reason"]) == ("payments on call", "undo_failed")
    assert review["step"] == "preauth"
    assert "125.00 EUR" in review["next_step"]
    assert review["opened_at"] == service.clock.at


def test_a_refused_undo_is_resumed_as_a_new_decision_and_works(service: Service) -> None:
    payment_id = refused_undo(service)

    do(service, payment_id, Remedy.RESUME)
    service.settle()
    service.receive(cancellation(reference="MODCANCEL2"))

    assert len(set(keys(service, "cancel"))) == 2
    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.held) == ("compensated", 0)
    assert open_reviews(service) == []


def test_an_undo_that_fails_again_comes_back_to_the_desk(service: Service) -> None:
    payment_id = refused_undo(service)
    do(service, payment_id, Remedy.RESUME)
    service.settle()

    service.receive(cancellation(success=False, reference="MODCANCEL2"))

    assert service.payment(payment_id).state == "manual_review"
    assert len(open_reviews(service)) == 1
    assert service.count("reviews") == 2


@pytest.fixture
def unanswered_refund(service: Service) -> UUID:
    """A payment in manual_review: the refund of what was captured never got an answer."""
    payment_id = BRING[S.CAPTURE](service)
    do(service, payment_id, Remedy.ABANDON)
    service.outside.psp.lost_answers = [GatewayTimeout("no answer")] * 40
    service.receive(captured())
    for _day in range(12):
        service.later(DAY)
    assert service.payment(payment_id).state == "manual_review"
    service.outside.psp.lost_answers = []
    return payment_id


def test_a_refund_whose_outcome_is_unknown_is_resumed_under_its_own_key(
    service: Service, unanswered_refund: UUID
) -> None:
    do(service, unanswered_refund, Remedy.RESUME)
    tried = len(keys(service, "refund"))
    service.settle()

    assert len(keys(service, "refund")) == tried + 1
    assert len(set(keys(service, "refund"))) == 1


def test_a_resumed_undo_has_its_whole_patience_again(
    service: Service, unanswered_refund: UUID
) -> None:
    do(service, unanswered_refund, Remedy.RESUME)
    service.outside.psp.failures = [GatewayUnavailable("503")] * 40

    service.later(DAY)

    assert service.payment(unanswered_refund).state == "compensating"


def test_a_capture_whose_outcome_is_unknown_is_resumed_under_its_own_key(
    service: Service,
) -> None:
    payment_id = unresolved_capture(service)
    asked = len(keys(service, "capture"))

    do(service, payment_id, Remedy.RESUME)
    service.settle()

    assert service.payment(payment_id).state == "capture"
    assert len(keys(service, "capture")) == asked + 1
    assert len(set(keys(service, "capture"))) == 1


def test_a_resumed_capture_that_is_then_rejected_may_have_worked_before(service: Service) -> None:
    payment_id = unresolved_capture(service)
    service.outside.psp.failures = [GatewayRejected("422")]

    do(service, payment_id, Remedy.RESUME)
    service.settle()

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("manual_review", "capture_unresolved")
    assert service.outside.booking.asked("cancel") == 0


def test_a_resumed_capture_has_its_whole_patience_again(service: Service) -> None:
    payment_id = unresolved_capture(service)
    do(service, payment_id, Remedy.RESUME)

    service.later(25 * 3600)
    before = service.payment(payment_id).state
    service.receive(captured())

    assert before == "capture"
    payment = service.payment(payment_id)
    assert (payment.state, payment.reason) == ("fin", None)


def test_a_capture_that_the_psp_has_told_meanwhile_is_not_asked_for_again(service: Service) -> None:
    payment_id = unresolved_capture(service)
    service.receive(captured())
    assert service.payment(payment_id).state == "manual_review"
    asked = len(keys(service, "capture"))

    do(service, payment_id, Remedy.RESUME)
    service.settle()

    assert service.payment(payment_id).state == "fin"
    assert len(keys(service, "capture")) == asked


def test_a_skipped_capture_goes_on_to_the_mail_and_leaves_the_record_as_it_is(
    service: Service,
) -> None:
    payment_id = unresolved_capture(service)
    before = service.rows("SELECT * FROM saga_steps WHERE step = 'capture'")

    do(service, payment_id, Remedy.SKIP)
    service.settle()

    assert service.path(payment_id)[-2:] == ["email", "fin"]
    assert service.rows("SELECT * FROM saga_steps WHERE step = 'capture'") == before
    assert service.outside.mail.asked("send") == 1


def test_an_abandoned_unknown_capture_is_reversed_not_cancelled(service: Service) -> None:
    payment_id = unresolved_capture(service)

    do(service, payment_id, Remedy.ABANDON)
    service.settle()

    assert keys(service, "reverse")
    assert not keys(service, "cancel")
    assert service.outside.booking.asked("cancel") == 1


def test_a_skipped_undo_counts_as_done_with_the_operators_word_for_it(service: Service) -> None:
    payment_id = refused_undo(service)

    do(service, payment_id, Remedy.SKIP)
    service.settle()

    payment = service.payment(payment_id)
    assert (payment.state, payment.reason, payment.funds.held) == (
        "compensated",
        "undo_skipped",
        12500,
    )
    [step] = service.rows("SELECT * FROM saga_steps WHERE step = 'preauth' AND direction = 'undo'")
    assert step["status"] == "done"
    assert step["response"]["operator"] == OPERATOR
    assert step["response"]["reason"] == REASON
    assert service.outside.psp.asked("cancel") == 1


def test_compensation_goes_on_with_the_next_undo_after_one_was_skipped(service: Service) -> None:
    payment_id = BRING[S.CAPTURE](service)
    service.outside.booking.failures = [GatewayUnavailable("503")] * 40
    service.receive(
        an_item(
            "CAPTURE", success=False, psp_reference="MODCAPTURE", original_reference=PSP_REFERENCE
        ),
        cancellation(success=False),
    )
    for _hour in range(6):
        service.later(3600)
    [review] = open_reviews(service)
    assert review["step"] == "preauth"

    do(service, payment_id, Remedy.SKIP)
    service.settle()
    between = service.payment(payment_id).state
    service.outside.booking.failures = []
    service.later(2 * DAY)

    assert between == "compensating"
    assert service.payment(payment_id).state == "compensated"
    assert "cancel" in service.outside.booking.effects.values()
    assert service.outside.psp.asked("cancel") == 1


def test_money_that_a_person_gave_back_is_not_asked_for_in_the_name_of_another_step(
    service: Service, unanswered_refund: UUID
) -> None:
    asked = len(service.outside.psp.calls)

    do(service, unanswered_refund, Remedy.SKIP)
    service.settle()

    assert service.payment(unanswered_refund).state == "compensated"
    assert len(service.outside.psp.calls) == asked


@pytest.mark.parametrize("to", FORCED)
@pytest.mark.parametrize("bring", [refused_undo, unresolved_capture])
def test_a_forced_payment_rests_where_it_was_forced_to(
    service: Service, bring: Callable[[Service], UUID], to: FlowState
) -> None:
    payment_id = bring(service)
    calls = len(service.outside.psp.calls)

    do(service, payment_id, Remedy.FORCE, to)
    service.later(10 * DAY)

    assert service.payment(payment_id).state is to
    assert len(service.outside.psp.calls) == calls
    assert open_reviews(service) == []
    assert service.sagas_without_a_future() == []


def test_a_success_after_a_forced_decline_is_given_back_and_resumes_nothing(
    service: Service,
) -> None:
    payment_id = refused_undo(service)
    do(service, payment_id, Remedy.FORCE, S.DECLINED)

    service.receive(an_item(psp_reference="PSP2"))

    assert service.payment(payment_id).state == "compensating"
    assert "LATE_SUCCESS" in service.open_breaks()
    assert service.outside.mail.calls == []


@pytest.mark.parametrize("to", [None, *sorted(set(FlowState) - set(FORCED))])
def test_a_payment_is_forced_to_a_rest_state_of_its_own_only(
    service: Service, to: FlowState | None
) -> None:
    payment_id = refused_undo(service)

    with pytest.raises(InvalidFields, match="to: is not one of fin, compensated, declined"):
        do(service, payment_id, Remedy.FORCE, to)
    assert set(FORCED) < REST_STATES


@pytest.mark.parametrize("remedy", [Remedy.RESUME, Remedy.SKIP, Remedy.ABANDON])
def test_only_force_names_a_state(service: Service, remedy: Remedy) -> None:
    with pytest.raises(InvalidFields, match="to: goes with force only"):
        do(service, PAYMENT_ID, remedy, S.FIN)


def test_what_has_changed_since_it_was_looked_at_is_left_alone(service: Service) -> None:
    payment_id = refused_undo(service)
    looked_at = service.payment(payment_id)
    service.receive(captured())
    before = service.payment(payment_id)

    with pytest.raises(PaymentChanged):
        do(service, payment_id, Remedy.SKIP, version=looked_at.version)

    assert service.payment(payment_id) == before
    assert audit(service) == []
    do(service, payment_id, Remedy.SKIP, version=before.version)


def test_a_payment_that_does_not_exist_is_not_found(service: Service) -> None:
    with pytest.raises(PaymentNotFound):
        do(service, PAYMENT_ID, Remedy.RESUME)


def test_every_action_has_a_line_with_who_why_before_and_after(service: Service) -> None:
    payment_id = refused_undo(service)
    before = service.payment(payment_id)

    after = do(service, payment_id, Remedy.RESUME)

    [line] = audit(service)
    assert (line["operator"], line["reason"], line["at"]) == (OPERATOR, REASON, service.clock.at)
    assert (line["action"], line["subject"]) == ("resume", str(payment_id))
    assert line["before"]["state"] == "manual_review"
    assert line["before"]["version"] == before.version
    assert line["before"]["held"] == 12500
    assert line["before"]["review"]["owner"] == "payments on call"
    assert line["after"]["state"] == "compensating"
    assert line["after"]["version"] == after.version
    assert line["after"]["review"] is None
    [moved] = [it for it in service.events(payment_id, "flow_moved") if "operator" in it]
    assert moved == {
        "event": "undo_resumed",
        "from": "manual_review",
        "to": "compensating",
        "operator": OPERATOR,
        "reason": REASON,
        "step": "preauth",
    }
    [cause] = service.rows("SELECT cause FROM payment_events WHERE cause LIKE 'operator:%'")
    assert cause["cause"] == f"operator:{OPERATOR}"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE operator_actions SET reason = 'another'",
        "DELETE FROM operator_actions",
        "TRUNCATE operator_actions",
    ],
)
def test_the_audit_log_can_not_be_changed(service: Service, statement: str) -> None:
    do(service, refused_undo(service), Remedy.RESUME)

    with pytest.raises(ProgrammingError, match="append-only"):
        service.execute(statement)

    assert len(audit(service)) == 1


@pytest.mark.parametrize("reason", ["", "   "])
def test_the_database_refuses_a_blank_reason(service: Service, reason: str) -> None:
    with pytest.raises(IntegrityError, match="ck_operator_actions_reason"):
        service.execute(
            "INSERT INTO operator_actions VALUES (:id, 'ada', 'skip', 's', :reason, '{}', '{}',"
            " now())",
            id=PAYMENT_ID,
            reason=reason,
        )


@pytest.mark.parametrize(
    ("operator", "reason", "field"),
    [
        ("", "because", "by"),
        ("   ", "because", "by"),
        ("a" * 81, "because", "by"),
        ("ada\n", "because", "by"),
        ("ada", "", "reason"),
        ("ada", " \t", "reason"),
        ("ada", "b" * 501, "reason"),
        ("ada", "\x00", "reason"),
        ("ada", "paid with 4111 1111 1111 1111", "reason"),
    ],
)
def test_nothing_is_done_without_a_name_and_a_reason(
    operator: str, reason: str, field: str
) -> None:
    with pytest.raises(InvalidFields) as refused:
        Grounds(operator, reason)

    assert list(refused.value.problems) == [field]


def test_a_review_goes_to_another_desk(service: Service) -> None:
    payment_id = refused_undo(service)

    assign(service, payment_id, to="Grace H")

    [review] = open_reviews(service)
    assert review["owner"] == "Grace H"
    [line] = audit(service)
    assert (line["action"], line["subject"]) == ("assign", str(payment_id))
    assert line["before"]["review"]["owner"] == "payments on call"
    assert line["after"]["review"]["owner"] == "Grace H"
    assert titles(service, payment_id)[-1] == (
        f"Review assigned to Grace H, by {OPERATOR}: {REASON}"
    )
    assert service.discrepancies() == []


def test_what_lies_on_no_desk_can_not_be_assigned(service: Service) -> None:
    with pytest.raises(PaymentNotFound):
        assign(service, PAYMENT_ID, to="Grace H")
    with pytest.raises(ReviewNotFound):
        assign(service, BRING[S.FIN](service), to="Grace H")
    with pytest.raises(InvalidFields, match="to: must not be blank"):
        assign(service, PAYMENT_ID, to=" ")
    assert audit(service) == []


def assign(service: Service, payment_id: UUID, *, to: str) -> None:
    assign_review(
        payment_id,
        to=to,
        grounds=GROUNDS,
        unit_of_work=service.container.unit_of_work,
        clock=service.clock,
    )
