"""``verify``: whatever was changed past the service shows; history itself can't be changed."""

import pytest
from sqlalchemy.exc import ProgrammingError

from app.domain.payment import CaptureMode
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service


@pytest.fixture
def busy(service: Service) -> Service:
    """Payments that went every way."""
    for number, says_yes in enumerate([True, False, True]):
        service.outside.booking.says_yes = says_yes
        capture = CaptureMode.AUTOMATIC if number == 2 else CaptureMode.MANUAL
        service.start(merchant_reference=f"ORDER-{number}", capture=capture)
        service.settle()
        service.receive(an_item(psp_reference=f"PSP{number}", merchant_reference=f"ORDER-{number}"))
        service.receive(
            an_item("CAPTURE", psp_reference=f"CAP{number}", original_reference=f"PSP{number}")
        )
    service.receive(an_item(merchant_reference="THEIRS", psp_reference=PSP_REFERENCE))
    service.later(100)
    assert service.count("payments") == 4
    return service


def tamper(service: Service, sql: str) -> None:
    """Change history as somebody would who owns the database."""
    service.execute("ALTER TABLE payment_events DISABLE TRIGGER append_only")
    service.execute(sql)
    service.execute("ALTER TABLE payment_events ENABLE TRIGGER append_only")


ONE = "payment_id = (SELECT payment_id FROM payments WHERE merchant_reference = 'ORDER-0')"


def test_an_honest_database_agrees(busy: Service) -> None:
    assert busy.discrepancies() == []


@pytest.mark.parametrize(
    "change",
    [
        "state = 'declined'",
        "reason = 'mail_failed'",
        "amount_minor = 1",
        "currency = 'USD'",
        "merchant_reference = 'ORDER-9'",
        "merchant_account = 'OtherECOM'",
        "psp_reference = 'OTHER'",
        "capture = 'automatic'",
        "facts = CAST('[]' AS jsonb)",
        "details = CAST('{}' AS jsonb)",
        "version = version + 1",
        "created_at = created_at + interval '1 second'",
        "updated_at = updated_at + interval '1 second'",
        "newest_hash = sha256('x')",
        "funds_status = 'refunded'",
        "authorised = authorised + 1",
        "captured = captured + 1",
        "refunded = refunded + 1",
        "charged_back = charged_back + 1",
        "cancelled = cancelled + 1",
        "is_ours = NOT is_ours",
    ],
)
def test_a_changed_payment_is_found(busy: Service, change: str) -> None:
    busy.execute(f"UPDATE payments SET {change} WHERE {ONE}")

    assert len({one.payment_id for one in busy.discrepancies()}) == 1


@pytest.mark.parametrize(
    "change",
    [
        "data = jsonb_set(data, '{amount_minor}', '1')",
        "cause = 'nobody'",
        "kind = 'noted'",
        "at = at + interval '1 microsecond'",
        "hash = sha256('x')",
    ],
)
def test_a_changed_event_is_found(busy: Service, change: str) -> None:
    tamper(busy, f"UPDATE payment_events SET {change} WHERE {ONE} AND seq = 1")

    [found] = busy.discrepancies()
    assert "event 1" in found.what


def test_a_removed_last_event_is_found(busy: Service) -> None:
    tamper(
        busy,
        f"DELETE FROM payment_events WHERE {ONE} AND seq ="
        f" (SELECT max(seq) FROM payment_events WHERE {ONE})",
    )

    assert len(busy.discrepancies()) == 1


def test_a_removed_middle_event_is_found(busy: Service) -> None:
    tamper(busy, f"DELETE FROM payment_events WHERE {ONE} AND seq = 3")

    [found] = busy.discrepancies()
    assert found.what == "event 3 is missing"


def test_a_removed_middle_event_is_found_although_the_gap_was_closed(busy: Service) -> None:
    tamper(busy, f"DELETE FROM payment_events WHERE {ONE} AND seq = 3")
    for seq in range(4, 30):
        tamper(busy, f"UPDATE payment_events SET seq = {seq - 1} WHERE {ONE} AND seq = {seq}")

    assert len(busy.discrepancies()) == 1


def test_a_removed_history_is_found(busy: Service) -> None:
    tamper(busy, f"DELETE FROM payment_events WHERE {ONE}")

    assert len(busy.discrepancies()) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payment_events SET cause = cause",
        "UPDATE payment_events SET cause = cause WHERE FALSE",
        "DELETE FROM payment_events",
        "DELETE FROM payment_events WHERE seq = 1",
        "TRUNCATE payment_events",
        "TRUNCATE payments CASCADE",
    ],
)
def test_the_database_refuses_to_change_history(busy: Service, statement: str) -> None:
    before = busy.count("payment_events")
    with pytest.raises(ProgrammingError, match="append-only"):
        busy.execute(statement)

    assert busy.count("payment_events") == before
    assert busy.discrepancies() == []
