"""Rules S2, S3, S5, S6, S7, S9: payments that rest in the middle while nobody works (F14, F30)."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.domain.payment import CaptureMode
from app.errors import GatewayTimeout, GatewayUnavailable
from reconciliation.sweep import Action, Finding
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.fakes import FakeParty
from tests.support.service import Crash, Service, crash

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
QUIET = 5 * MINUTE
WINDOW = 15 * MINUTE


def planned(service: Service, *, in_seconds: float = 0) -> list[Finding]:
    return service.sweep().plan(as_of=service.clock.at + timedelta(seconds=in_seconds))


def told(service: Service, *, in_seconds: float = 0) -> list[tuple[str, Action, str]]:
    """What a plan says, in short."""
    return [(one.rule, one.action, one.why) for one in planned(service, in_seconds=in_seconds)]


def sweep_at(service: Service, seconds: float) -> list[tuple[str, Action]]:
    """Move the clock on and sweep, where nobody else works."""
    service.advance(seconds)
    return [(one.rule, one.action) for one in service.sweep_once()]


def die_at(service: Service, party: FakeParty) -> None:
    """Work until a party has acted; the worker dies before it has written the answer down."""
    party.before_answer = crash
    with pytest.raises(Crash):
        service.settle()
    party.before_answer = lambda: None


def authorised(service: Service, *, capture: CaptureMode = CaptureMode.MANUAL) -> UUID:
    """Bring a payment to where its authorisation is known, and its booking not yet asked for."""
    payment_id = service.start(capture=capture)
    service.settle()
    service.deliver(an_item())
    service.drain()
    return payment_id


def keys_of(service: Service, what: str) -> list[str]:
    return [key for called, key in service.outside.psp.calls if called == what]


def modification(
    code: str, *, success: bool = True, reference: str = "MOD", minutes: int = 30
) -> dict[str, object]:
    return an_item(
        code,
        success=success,
        psp_reference=reference,
        original_reference=PSP_REFERENCE,
        event_date=f"2026-11-20T10:{minutes}:00+01:00",
    )


def test_what_somebody_worked_on_in_the_last_five_minutes_is_left_alone(service: Service) -> None:
    service.start()
    die_at(service, service.outside.psp)

    not_yet = told(service, in_seconds=QUIET - 1)
    then = told(service, in_seconds=QUIET)

    assert not_yet == []
    assert len(then) == 1


def test_what_somebody_holds_a_lease_on_is_left_alone(service: Service) -> None:
    service.start()
    die_at(service, service.outside.psp)
    service.execute("UPDATE saga_instances SET lease_until = lease_until + interval '1 hour'")

    assert told(service, in_seconds=QUIET) == []
    assert len(told(service, in_seconds=2 * HOUR)) == 1


def test_s2_an_authorisation_without_an_answer_is_asked_again_under_the_same_key(
    service: Service,
) -> None:
    """F4: it is not known whether the call that the dead worker made was answered."""
    payment_id = service.start()
    die_at(service, service.outside.psp)
    service.advance(QUIET)

    found = told(service)
    sweep_at(service, 0)
    service.receive(an_item())

    assert found == [("S2", Action.RETRY, "preauth without an answer")]
    assert len(keys_of(service, "authorise")) == 2
    assert len(set(keys_of(service, "authorise"))) == 1
    assert service.payment(payment_id).state == "fin"


def test_s2_after_the_decision_window_what_may_be_held_is_cancelled_by_reference(
    service: Service,
) -> None:
    payment_id = service.start()
    die_at(service, service.outside.psp)
    service.advance(WINDOW)

    found = told(service)
    sweep_at(service, 0)

    [command] = service.rows("SELECT data FROM commands WHERE operation = 'cancel'")
    assert found == [("S2", Action.COMPENSATE, "authorisation_unresolved")]
    assert command["data"] == {"merchant_reference": "ORDER-1001"}
    assert len(keys_of(service, "authorise")) == 1
    assert service.payment(payment_id).state == "compensating"


def test_s2_a_payment_that_no_worker_ever_saw_is_begun(service: Service) -> None:
    service.start()

    found = told(service, in_seconds=QUIET)

    assert found == [
        ("S2", Action.RETRY, "fraud_check not asked yet and fraud_rules not asked yet")
    ]


def test_s2_a_fraud_check_without_an_answer_holds_nothing_and_is_given_up(
    service: Service,
) -> None:
    payment_id = service.start()
    die_at(service, service.outside.fraud)

    found = sweep_at(service, QUIET)

    assert found == [("S2", Action.DECLINE)]
    assert service.payment(payment_id).state == "declined"
    assert service.outside.psp.calls == []


def test_s2_the_psp_never_says_a_word_and_after_two_days_it_is_a_case(service: Service) -> None:
    service.outside.psp.failures = [GatewayTimeout("no answer")] * 100
    payment_id = service.start()
    service.settle()
    service.later(WINDOW)

    not_yet = [one for one in planned(service, in_seconds=2 * DAY - WINDOW - 1) if one.case]
    sweep_at(service, 2 * DAY - WINDOW)
    opened = service.rows("SELECT kind, payment_id, amount_minor, currency FROM breaks")
    sweep_at(service, HOUR)

    assert not_yet == []
    assert opened == [
        {
            "kind": "MISSING_AT_PSP",
            "payment_id": payment_id,
            "amount_minor": 12500,
            "currency": "EUR",
        }
    ]
    assert service.open_breaks() == ["MISSING_AT_PSP"]


def test_s2_a_case_that_a_person_has_settled_is_not_opened_again(service: Service) -> None:
    service.outside.psp.failures = [GatewayTimeout("no answer")] * 100
    service.start()
    service.settle()
    service.later(WINDOW)
    sweep_at(service, 2 * DAY)
    service.execute("UPDATE breaks SET state = 'resolved'")

    sweep_at(service, HOUR)

    assert service.open_breaks() == []


def test_s3_an_answer_without_a_webhook_is_undone_at_its_limit(service: Service) -> None:
    service.start()
    service.settle()

    not_yet = told(service, in_seconds=WINDOW - 1)
    then = told(service, in_seconds=WINDOW)
    sweep_at(service, WINDOW)

    [command] = service.rows("SELECT data FROM commands WHERE operation = 'cancel'")
    assert not_yet == []
    assert then == [("S3", Action.COMPENSATE, "authorisation_unresolved")]
    assert command["data"] == {"psp_reference": PSP_REFERENCE}


def test_s3_an_answer_that_said_refused_leaves_nothing_to_undo(service: Service) -> None:
    service.outside.psp.result = "Refused"
    payment_id = service.start()
    service.settle()

    found = sweep_at(service, WINDOW)

    assert found == [("S3", Action.DECLINE)]
    assert service.payment(payment_id).state == "declined"
    assert keys_of(service, "cancel") == []


def test_s5_a_booking_that_nobody_asked_for_is_asked_for(service: Service) -> None:
    payment_id = authorised(service)

    found = told(service, in_seconds=QUIET)
    sweep_at(service, QUIET)

    assert found == [("S5", Action.RETRY, "booking_confirmation not asked yet")]
    assert service.payment(payment_id).state == "fin"


def test_s5_a_booking_without_an_answer_is_undone_under_a_key_that_follows_from_the_payment(
    service: Service,
) -> None:
    """F30: the booking may have been made, so that it is cancelled too."""
    authorised(service)
    die_at(service, service.outside.booking)

    again = told(service, in_seconds=QUIET)
    found = sweep_at(service, 10 * MINUTE)
    service.outside.psp.calls.clear()
    sweep_at(service, HOUR)

    stored = service.rows("SELECT idempotency_key FROM commands WHERE operation = 'cancel'")
    assert again == [("S5", Action.RETRY, "booking_confirmation without an answer")]
    assert found == [("S5", Action.COMPENSATE)]
    assert service.outside.booking.asked("cancel") == 1
    assert {row["idempotency_key"] for row in stored} >= set(keys_of(service, "cancel"))
    assert len(keys_of(service, "cancel")) == 1


def test_s5_a_booking_that_failed_is_undone_also_if_the_worker_stopped_right_then(
    service: Service,
) -> None:
    """F38: a worker that stops writes down where the payment goes, and begins no further call."""
    service.outside.booking.says_yes = False
    payment_id = authorised(service)
    service.settle()
    service.execute(
        "UPDATE saga_steps SET status = 'registered', attempts = 0, request = NULL, due = NULL"
        " WHERE direction = 'undo'"
    )

    found = told(service, in_seconds=QUIET)
    sweep_at(service, QUIET)

    assert service.payment(payment_id).state == "compensating"
    assert found == [("S5", Action.RETRY, "undo of booking_confirmation not asked yet")]
    assert service.outside.booking.asked("cancel") == 2
    assert len(keys_of(service, "cancel")) == 2
    assert len(set(keys_of(service, "cancel"))) == 1


def test_s6_a_capture_without_a_webhook_is_asked_again_every_hour_then_a_person_has_it(
    service: Service,
) -> None:
    payment_id = authorised(service, capture=CaptureMode.AUTOMATIC)
    service.settle()

    not_yet = told(service, in_seconds=HOUR - 1)
    first = told(service, in_seconds=HOUR)
    found = [sweep_at(service, HOUR) for _ in range(26)]

    assert not_yet == []
    assert first == [("S6", Action.RETRY, "capture without its webhook")]
    assert found == [[("S6", Action.RETRY)]] * 25 + [[("S6", Action.ESCALATE)]]
    assert service.outside.psp.asked("capture") == 26
    assert len(set(keys_of(service, "capture"))) == 1
    assert service.payment(payment_id).state == "manual_review"
    assert told(service) == [("S6", Action.PAGE, "capture_unresolved; with payments on call")]


def test_s6_a_person_has_it_days_before_the_authorisation_expires(service: Service) -> None:
    authorised(service, capture=CaptureMode.AUTOMATIC)
    service.settle()

    [finding] = planned(service, in_seconds=26 * HOUR)

    assert finding.action is Action.ESCALATE
    assert service.clock.at + timedelta(hours=26) < finding.since + timedelta(days=7)


def test_s7_an_undo_that_fails_is_tried_on_its_schedule_and_then_a_person_is_paged(
    service: Service,
) -> None:
    """F27: the sweep alone goes through the whole schedule; money is held all the while."""
    service.outside.booking.says_yes = False
    payment_id = authorised(service)
    service.outside.psp.failures = [GatewayUnavailable("503")] * 100
    service.settle()

    not_yet = told(service, in_seconds=QUIET - 1)
    first = told(service, in_seconds=QUIET)
    found = []
    while service.payment(payment_id).state == "compensating":
        found += sweep_at(service, HOUR)
    service.advance(DAY)
    [paged] = planned(service)

    assert not_yet == []
    assert first == [("S7", Action.RETRY, "undo of preauth without an answer")]
    assert set(found) == {("S7", Action.RETRY)}
    assert len(set(keys_of(service, "cancel"))) == 1
    assert (paged.rule, paged.action) == ("S7", Action.PAGE)
    assert service.clock.at - paged.since == timedelta(days=1)


def test_s7_a_person_is_paged_by_every_sweep_until_the_review_is_closed(service: Service) -> None:
    service.outside.booking.says_yes = False
    payment_id = authorised(service)
    service.settle()
    service.receive(modification("CANCELLATION", success=False, reference="MODCANCEL"))

    pages = [sweep_at(service, HOUR) for _ in range(3)]
    service.execute("UPDATE reviews SET closed_at = now()")

    assert service.payment(payment_id).state == "manual_review"
    assert pages == [[("S7", Action.PAGE)]] * 3
    assert sweep_at(service, HOUR) == []


def test_s7_an_undo_that_was_not_begun_is_begun(service: Service) -> None:
    """A webhook released the hold, and the worker that applied it was the last to work."""
    payment_id = authorised(service)
    service.deliver(modification("CANCELLATION"))
    service.drain()

    found = sweep_at(service, QUIET)

    assert service.payment(payment_id).state == "compensated"
    assert found == [("S7", Action.REST)]


def test_s9_a_confirmation_that_nobody_sent_is_sent_after_half_an_hour(service: Service) -> None:
    payment_id = authorised(service)
    die_at(service, service.outside.mail)
    service.outside.mail.calls.clear()

    not_yet = told(service, in_seconds=30 * MINUTE - 1)
    then = told(service, in_seconds=30 * MINUTE)
    sweep_at(service, 30 * MINUTE)

    assert not_yet == []
    assert then == [("S9", Action.RETRY, "email without an answer")]
    assert service.outside.mail.asked("send") == 1
    assert service.payment(payment_id).state == "fin"
    assert service.payment(payment_id).reason is None


def test_s9_a_mail_server_that_is_away_is_tried_by_every_sweep_for_a_day(service: Service) -> None:
    """F32: a mail never undoes a booking, however long it takes to fail."""
    payment_id = authorised(service)
    die_at(service, service.outside.mail)
    service.outside.mail.failures = [GatewayUnavailable("connection refused")] * 100

    found = [sweep_at(service, HOUR) for _ in range(23)]
    before = service.payment(payment_id).state
    last = sweep_at(service, HOUR)

    assert found == [[("S9", Action.RETRY)]] * 23
    assert (before, last) == ("email", [("S9", Action.REST)])
    assert service.payment(payment_id).state == "fin"
    assert service.open_breaks() == []


def test_s9_a_mail_that_another_worker_is_sending_is_left_to_it(service: Service) -> None:
    authorised(service)
    die_at(service, service.outside.mail)
    service.advance(30 * MINUTE)
    sweep = service.sweep()
    findings = sweep.plan(as_of=service.clock.at)
    service.execute(
        "UPDATE saga_instances SET lease_until = :at", at=service.clock.at + timedelta(1)
    )
    before = service.rows("SELECT * FROM saga_steps")

    sweep.carry_out(findings, as_of=service.clock.at)

    assert len(findings) == 1
    assert service.rows("SELECT * FROM saga_steps") == before


def test_a_payment_that_has_moved_since_it_was_found_is_left_to_whoever_moved_it(
    service: Service,
) -> None:
    payment_id = service.start()
    service.settle()
    as_of = service.clock.at + timedelta(days=1)
    sweep = service.sweep()
    findings = sweep.plan(as_of=as_of)
    service.receive(an_item())

    sweep.carry_out(findings, as_of=as_of)

    assert [finding.action for finding in findings] == [Action.COMPENSATE]
    assert service.payment(payment_id).state == "fin"


def test_every_try_of_a_sweep_is_a_line_of_the_payments_history(service: Service) -> None:
    payment_id = service.start()
    die_at(service, service.outside.psp)
    before = len(service.events(payment_id, "step_failed"))
    service.outside.psp.failures = [GatewayUnavailable("503")] * 2

    sweep_at(service, QUIET)
    sweep_at(service, QUIET)

    assert len(service.events(payment_id, "step_failed")) == before + 2
    assert service.discrepancies() == []


def test_a_finding_tells_its_age_and_when_the_sweep_looks_again(service: Service) -> None:
    service.start()
    die_at(service, service.outside.psp)
    service.advance(QUIET)

    [finding] = planned(service)
    shown = finding.as_json(service.clock.at)

    assert shown["age_seconds"] == QUIET
    assert shown["state"] == "preauth"
    assert finding.next_look == service.clock.at + timedelta(seconds=QUIET)
