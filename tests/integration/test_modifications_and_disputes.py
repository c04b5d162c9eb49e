"""Captures, refunds and chargebacks in any order end in the same funds (F12)."""

from itertools import permutations

import pytest

from app.domain.payment import Payment
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.service import Service


def modification(
    code: str,
    reference: str,
    *,
    amount_minor: int = 12500,
    success: bool = True,
    minute: int = 1,
    reason: str = "",
) -> dict[str, object]:
    return an_item(
        code,
        success=success,
        psp_reference=reference,
        original_reference=PSP_REFERENCE,
        merchant_reference="their-own-reference",
        amount_minor=amount_minor,
        event_date=f"2026-11-20T11:{minute:02}:00+01:00",
        reason=reason,
    )


@pytest.fixture
def finished(service: Service) -> Payment:
    """A payment in fin, with its money on hold."""
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    payment = service.payment(payment_id)
    assert payment.state == "fin"
    return payment


def test_a_modification_finds_its_payment_by_the_original_reference(
    service: Service, finished: Payment
) -> None:
    service.receive(modification("CAPTURE", "CAP1"))

    assert service.payment(finished.payment_id).funds.captured == 12500


def test_a_modification_with_our_reference_but_another_payments_original_is_not_ours(
    service: Service, finished: Payment
) -> None:
    stray = an_item("CAPTURE", psp_reference="CAP1", original_reference="8816000000000000")

    service.receive(stray)

    assert service.payment(finished.payment_id) == finished
    assert [work["state"] for work in service.work()] == ["parked"]


def test_captures_add_up(service: Service, finished: Payment) -> None:
    service.receive(
        modification("CAPTURE", "CAP1", amount_minor=5000),
        modification("CAPTURE", "CAP2", amount_minor=2500),
    )

    funds = service.payment(finished.payment_id).funds
    assert (funds.captured, funds.status) == (7500, "partially_captured")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_failed_capture_in_any_order_leaves_the_hold(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    items = (
        modification("CAPTURE", "CAP1", minute=1),
        modification("CAPTURE_FAILED", "CAP1", minute=2),
        modification("NOTIFICATION_OF_FRAUD", "D1"),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.captured, funds.status) == (0, "authorised")
    assert service.payment(finished.payment_id).state == "fin"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_failed_refund_in_any_order_is_no_refund(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    items = (
        modification("CAPTURE", "CAP1", minute=1),
        modification("REFUND", "REF1", amount_minor=500, minute=2),
        modification("REFUND_FAILED", "REF1", amount_minor=500, minute=3),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.refunded, funds.status) == (0, "captured")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_chargebacks_in_any_order_take_the_amount_once(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    service.receive(modification("CAPTURE", "CAP1"))
    items = (
        modification("CHARGEBACK", "D1", minute=2),
        modification("CHARGEBACK_REVERSED", "D1", minute=3),
        modification("SECOND_CHARGEBACK", "D1", minute=4),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.charged_back, funds.status) == (12500, "charged_back")


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_a_reversed_chargeback_in_any_order_brings_the_money_back(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    service.receive(modification("CAPTURE", "CAP1"))
    items = (
        modification("CHARGEBACK", "D1", minute=2),
        modification("CHARGEBACK_REVERSED", "D1", minute=3),
    )

    service.receive(*(items[place] for place in order))

    funds = service.payment(finished.payment_id).funds
    assert (funds.charged_back, funds.status) == (0, "captured")


def test_a_dispute_without_original_reference_finds_its_payment_by_its_own(
    service: Service, finished: Payment
) -> None:
    service.receive(modification("CAPTURE", "CAP1"), an_item("CHARGEBACK"))

    assert service.payment(finished.payment_id).funds.charged_back == 12500


@pytest.mark.parametrize(
    ("action", "status"), [("cancel", "cancelled"), ("refund", "refunded"), (None, "refunded")]
)
def test_a_reversal_does_what_its_action_says_or_what_the_funds_tell(
    service: Service, finished: Payment, action: str | None, status: str
) -> None:
    if action != "cancel":
        service.receive(modification("CAPTURE", "CAP1"))
    item = modification("CANCEL_OR_REFUND", "REV1", minute=2)
    if action is not None:
        item["additionalData"] = {"modification.action": action}

    service.receive(item)

    assert service.payment(finished.payment_id).funds.status == status
    assert service.payment(finished.payment_id).state == "fin"


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_a_reversal_that_does_not_say_what_it_did_refunds_a_capture_that_comes_after_it(
    service: Service, finished: Payment, order: tuple[int, ...]
) -> None:
    items = (modification("CAPTURE", "CAP1"), modification("CANCEL_OR_REFUND", "REV1", minute=2))

    service.receive(*(items[place] for place in order))

    assert service.payment(finished.payment_id).funds.status == "refunded"


def test_a_reversal_that_does_not_say_what_it_did_shows_on_the_timeline(
    service: Service, finished: Payment
) -> None:
    service.receive(modification("CANCEL_OR_REFUND", "REV1"))

    kinds = [fact["kind"] for fact in service.events(finished.payment_id, "fact_recorded")]
    assert kinds[-1] == "unspecified_reversal"


@pytest.mark.parametrize("reason", ["Transaction Auto-recaptured", ""])
def test_a_capture_told_again_with_a_later_date_is_captured_again_after_its_failure(
    service: Service, finished: Payment, reason: str
) -> None:
    service.receive(
        modification("CAPTURE", "CAP1", minute=1),
        modification("CAPTURE_FAILED", "CAP1", minute=2),
    )

    service.receive(modification("CAPTURE", "CAP1", minute=3, reason=reason))

    assert service.payment(finished.payment_id).funds.status == "captured"


@pytest.mark.parametrize("code", ["AUTHORISATION", "CAPTURE_FAILED", "NOTIFICATION_OF_FRAUD"])
def test_a_redelivery_that_changes_nothing_leaves_no_event(
    service: Service, finished: Payment, code: str
) -> None:
    item = modification(code, "D1") if code != "AUTHORISATION" else an_item()
    service.receive(item)
    version = service.payment(finished.payment_id).version

    service.receive(item | {"reason": "another", "eventDate": "2026-11-20T10:00:00+01:00"})
    service.receive(an_item(event_date="2026-11-20T12:00:00+01:00"))

    assert service.payment(finished.payment_id).version == version


@pytest.mark.parametrize("release", ["CANCELLATION", "EXPIRE"])
def test_an_authorisation_told_again_undoes_no_release(
    service: Service, finished: Payment, release: str
) -> None:
    item = modification(release, "CAN1") if release != "EXPIRE" else an_item(release)
    service.receive(item)

    service.receive(an_item(event_date="2026-11-20T12:00:00+01:00"))

    assert service.payment(finished.payment_id).funds.held == 0


def test_an_authorisation_told_again_undoes_no_adjustment(
    service: Service, finished: Payment
) -> None:
    service.receive(modification("AUTHORISATION_ADJUSTMENT", "ADJ1", amount_minor=15000))

    service.receive(an_item(event_date="2026-11-20T12:00:00+01:00"))

    assert service.payment(finished.payment_id).funds.authorised == 15000


def test_a_refused_adjustment_leaves_the_old_amount(service: Service, finished: Payment) -> None:
    service.receive(
        modification("AUTHORISATION_ADJUSTMENT", "ADJ1", amount_minor=15000, success=False)
    )

    assert service.payment(finished.payment_id).funds.authorised == 12500


@pytest.mark.parametrize(
    ("items", "kind", "amount_minor"),
    [
        (
            [
                modification("CAPTURE", "CAP1", amount_minor=5000),
                modification("REFUND", "REF1", amount_minor=7000, minute=2),
            ],
            "OVER_REFUNDED",
            2000,
        ),
        (
            [
                modification("CAPTURE", "CAP1"),
                modification("REFUND", "REF1", minute=2),
                modification("CHARGEBACK", "D1", minute=3),
            ],
            "OVER_REFUNDED",
            12500,
        ),
        (
            [modification("CANCELLATION", "CAN1"), modification("CAPTURE", "CAP1", minute=2)],
            "STATUS_MISMATCH",
            12500,
        ),
        (
            [modification("CAPTURE", "CAP1"), modification("CANCELLATION", "CAN1", minute=2)],
            "STATUS_MISMATCH",
            12500,
        ),
        (
            [modification("CAPTURE", "CAP1"), modification("CAPTURE_FAILED", "CAP1", minute=2)],
            "STATUS_MISMATCH",
            12500,
        ),
        ([modification("CAPTURE", "CAP1", success=False)], "STATUS_MISMATCH", 12500),
        ([an_item(psp_reference="8816178914079799")], "DUPLICATE_PSP", 12500),
    ],
    ids=[
        "refunded beyond the capture",
        "charged back after the refund",
        "captured after the cancellation",
        "cancelled after the capture",
        "capture failed",
        "capture refused",
        "authorised twice",
    ],
)
def test_what_can_not_be_right_is_recorded_and_shown_to_a_person(
    service: Service,
    finished: Payment,
    items: list[dict[str, object]],
    kind: str,
    amount_minor: int,
) -> None:
    before = service.payment(finished.payment_id).funds

    service.receive(*items)

    assert service.payment(finished.payment_id).funds != before
    assert service.open_breaks() == [kind]
    [row] = service.rows("SELECT amount_minor FROM breaks")
    assert row["amount_minor"] == amount_minor


def test_a_break_that_was_closed_is_not_opened_again_by_an_unrelated_fact(
    service: Service, finished: Payment
) -> None:
    service.receive(an_item(psp_reference="8816178914079799"))
    service.execute("UPDATE breaks SET state = 'resolved'")

    service.receive(modification("CAPTURE", "CAP1"))

    assert service.payment(finished.payment_id).funds.captured == 12500
    assert service.open_breaks() == []


@pytest.mark.parametrize(
    "item",
    [
        modification("VOID_PENDING_REFUND", "M1"),
        modification("POSTPONED_REFUND", "M1"),
        modification("PAIDOUT_REVERSED", "M1"),
        modification("MANUAL_REVIEW_REJECT", "M1"),
        modification("CAPTURE_FAILED", "CAP1", success=False),
        modification("CHARGEBACK", "D1", success=False),
        an_item("HANDLED_EXTERNALLY"),
        an_item("EXPIRE", success=False),
    ],
    ids=lambda item: str(item["eventCode"]),
)
def test_a_webhook_without_effect_on_money_is_noted(
    service: Service, finished: Payment, item: dict[str, object]
) -> None:
    service.receive(item)

    after = service.payment(finished.payment_id)
    assert (after.funds, after.state) == (finished.funds, "fin")
    [noted] = service.events(finished.payment_id, "noted")[-1:]
    assert noted["note"] == item["eventCode"]


@pytest.mark.parametrize(
    "item",
    [
        an_item("REPORT_AVAILABLE", psp_reference="settlement_detail_report_batch_1.csv"),
        modification("RECURRING_CONTRACT", "TOKEN1"),
        modification("ORDER_CLOSED", "ORDER1"),
        an_item("CAPTURE", psp_reference="test_CAPTURE_1", original_reference=PSP_REFERENCE),
    ],
    ids=["report", "token", "order", "test notification"],
)
def test_a_webhook_about_no_payment_touches_none(
    service: Service, finished: Payment, item: dict[str, object]
) -> None:
    service.receive(item)

    assert service.payment(finished.payment_id) == finished
    assert service.work() == []


@pytest.mark.parametrize(
    ("code", "amount"),
    [
        ("SOMETHING_NEW", {"value": 12500, "currency": "EUR"}),
        ("REFUND", {"value": -1, "currency": "EUR"}),
        ("REFUND", {"value": 12500, "currency": "USD"}),
        ("REFUND", None),
    ],
    ids=["unknown code", "negative", "another currency", "no amount"],
)
def test_what_is_not_understood_is_parked(
    service: Service, finished: Payment, code: str, amount: dict[str, object] | None
) -> None:
    service.receive(modification(code, "M1") | {"amount": amount})

    assert service.payment(finished.payment_id) == finished
    assert [work["state"] for work in service.work()] == ["parked"]


def test_an_amount_as_text_and_a_cancellation_of_nothing_are_ordinary(
    service: Service, finished: Payment
) -> None:
    captured = modification("CAPTURE", "CAP1") | {"amount": {"value": "5000", "currency": "EUR"}}
    cancelled = modification("CANCELLATION", "CAN1", amount_minor=0, minute=2)

    service.receive(captured, cancelled)

    funds = service.payment(finished.payment_id).funds
    assert (funds.captured, funds.cancelled, funds.held) == (5000, 7500, 0)
    assert service.open_breaks() == []


def test_modifications_of_a_second_authorisation_belong_to_the_same_payment(
    service: Service,
) -> None:
    payment_id = service.start()
    service.settle()
    service.receive(an_item(), an_item(psp_reference="SECOND"))

    service.receive(an_item("CANCELLATION", psp_reference="VOID2", original_reference="SECOND"))

    assert service.count("payments") == 1
    assert service.payment(payment_id).funds.held == 12500


def test_a_release_between_two_tellings_of_an_authorisation_releases_whatever_is_drained_when(
    service: Service,
) -> None:
    payment_id = service.start()
    service.settle()
    release = an_item(
        "CANCELLATION",
        psp_reference="VOID1",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:05:00+01:00",
    )

    service.deliver(an_item(), an_item(event_date="2026-11-20T10:10:00+01:00"), release)
    service.settle()

    assert service.payment(payment_id).funds.held == 0


def test_an_earlier_telling_that_comes_late_tells_when_it_happened(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    release = an_item(
        "CANCELLATION",
        psp_reference="VOID1",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T10:05:00+01:00",
    )
    service.receive(an_item(event_date="2026-11-20T10:10:00+01:00"), release)
    before = service.payment(payment_id).funds.held

    service.receive(an_item())

    assert (before, service.payment(payment_id).funds.held) == (12500, 0)
