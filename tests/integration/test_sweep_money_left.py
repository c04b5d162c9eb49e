"""Rule S7: payments that rest as given up, though their funds show money (F14, F27)."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.domain.anomalies import STATUS_MISMATCH
from app.domain.flow import FlowState
from app.domain.payment import CaptureMode
from app.services.operate import Remedy
from reconciliation.sweep import Action, Finding, money_left
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.commands import CommandLine
from tests.support.desk import BRING, captured, do, refused_undo, unresolved_capture
from tests.support.service import Row, Service, at_once

HOUR = 3600
QUIET = 300
SECOND = "8816178914070002"

#: What one payment says of itself, in short.
Told = tuple[UUID | None, Action, str]


def told(service: Service, *, in_seconds: float = 0) -> list[Told]:
    plan = service.sweep().plan(as_of=service.clock.at + timedelta(seconds=in_seconds))
    return in_short(plan)


def sweep_at(service: Service, seconds: float) -> list[Told]:
    service.advance(seconds)
    return in_short(service.sweep_once())


def in_short(findings: list[Finding]) -> list[Told]:
    return [(one.payment_id, one.action, one.why) for one in findings if one.rule == "S7"]


def cases(service: Service) -> list[Row]:
    return service.rows(
        "SELECT kind, state, payment_id, subject, amount_minor, currency FROM breaks"
        " WHERE subject IS NOT NULL ORDER BY opened_at, subject"
    )


def modification(
    code: str,
    *,
    reference: str = "MOD",
    of: str = PSP_REFERENCE,
    order: str = "ORDER-1001",
    amount_minor: int = 12500,
    minutes: int = 40,
) -> dict[str, object]:
    return an_item(
        code,
        psp_reference=reference,
        original_reference=of,
        merchant_reference=order,
        amount_minor=amount_minor,
        event_date=f"2026-11-20T10:{minutes}:00+01:00",
    )


def adjustment(
    number: int = 1, *, amount_minor: int = 12500, minutes: int = 40
) -> dict[str, object]:
    return modification(
        "AUTHORISATION_ADJUSTMENT",
        reference=f"MOD{number}-{minutes}",
        of=f"PSP{number}",
        order=f"ORDER-{number}",
        amount_minor=amount_minor,
        minutes=minutes,
    )


def adjusted_after_its_refusal(service: Service, number: int = 1) -> UUID:
    """A declined payment that the PSP tells a hold of, in words that move no flow."""
    order, psp_reference = f"ORDER-{number}", f"PSP{number}"
    payment_id = service.start(merchant_reference=order)
    service.receive(an_item(success=False, merchant_reference=order, psp_reference=psp_reference))
    service.receive(adjustment(number))
    payment = service.payment(payment_id)
    assert (payment.state, payment.funds.held) == ("declined", 12500)
    return payment_id


def forced_with_money_kept(service: Service) -> UUID:
    """A payment that was captured while it waited for a person, who ended it all the same."""
    payment_id = unresolved_capture(service)
    service.receive(captured())
    do(service, payment_id, Remedy.FORCE, FlowState.COMPENSATED)
    return payment_id


def test_a_hold_of_a_declined_payment_is_a_case_and_told_by_every_sweep(service: Service) -> None:
    payment_id = adjusted_after_its_refusal(service)

    not_yet = told(service, in_seconds=QUIET - 1)
    first = sweep_at(service, QUIET)
    later = [sweep_at(service, HOUR) for _ in range(2)]

    why = "125.00 EUR held; authorisation_refused"
    assert not_yet == []
    assert first == [(payment_id, Action.ESCALATE, why)]
    assert later == [[(payment_id, Action.PAGE, why)]] * 2
    assert cases(service) == [
        {
            "kind": "STATUS_MISMATCH",
            "state": "open",
            "payment_id": payment_id,
            "subject": f"{payment_id}: 125.00 EUR held",
            "amount_minor": 12500,
            "currency": "EUR",
        }
    ]


def test_what_a_person_ended_with_money_kept_is_told_with_their_name(service: Service) -> None:
    payment_id = forced_with_money_kept(service)

    found = sweep_at(service, QUIET)

    why = "125.00 EUR kept; forced_compensated by operator:ada"
    assert found == [(payment_id, Action.ESCALATE, why)]
    assert [case["amount_minor"] for case in cases(service)] == [12500]


@pytest.mark.parametrize(
    ("remedy", "to", "how"),
    [
        (Remedy.FORCE, FlowState.COMPENSATED, "forced_compensated by operator:ada"),
        (Remedy.FORCE, FlowState.DECLINED, "forced_declined by operator:ada"),
        (Remedy.SKIP, None, "undo_skipped"),
    ],
)
def test_a_hold_that_a_person_left_is_a_case(
    service: Service, remedy: Remedy, to: FlowState | None, how: str
) -> None:
    """F27: money is held, whoever decided to let it be."""
    payment_id = refused_undo(service)
    do(service, payment_id, remedy, to)
    service.settle()

    assert sweep_at(service, QUIET) == [(payment_id, Action.ESCALATE, f"125.00 EUR held; {how}")]


def test_a_hold_and_what_was_captured_of_it_are_one_case(service: Service) -> None:
    payment_id = unresolved_capture(service)
    service.receive(captured(2500))
    do(service, payment_id, Remedy.FORCE, FlowState.COMPENSATED)

    [(_payment, _action, why)] = sweep_at(service, QUIET)

    assert why.startswith("100.00 EUR held and 25.00 EUR kept; ")
    assert [case["amount_minor"] for case in cases(service)] == [12500]


@pytest.mark.parametrize(
    "end_of_the_first", [("CANCELLATION",), ("CAPTURE", "REFUND"), ("CAPTURE", "CHARGEBACK")]
)
def test_a_second_hold_is_found_though_the_sums_are_those_of_a_first_that_ended(
    service: Service, end_of_the_first: tuple[str, ...]
) -> None:
    """F29."""
    payment_id = refused_undo(service)
    service.deliver(
        an_item(psp_reference=SECOND, event_date="2026-11-20T10:05:00+01:00"),
        *(modification(code, reference=f"MOD-{code}") for code in end_of_the_first),
    )
    service.drain()
    do(service, payment_id, Remedy.FORCE, FlowState.COMPENSATED)

    found = sweep_at(service, QUIET)

    [sums] = service.rows("SELECT authorised - captured - cancelled AS left FROM payments")
    assert sums == {"left": 0}
    assert [(one[0], one[2].split(";")[0]) for one in found] == [(payment_id, "125.00 EUR held")]


@pytest.mark.parametrize(
    "state", [FlowState.FIN, FlowState.DECLINED, FlowState.COMPENSATED, FlowState.EXTERNAL]
)
def test_a_payment_that_rests_as_it_should_is_not_found(service: Service, state: FlowState) -> None:
    payment_id = BRING[state](service)

    assert service.payment(payment_id).state is state
    assert told(service, in_seconds=HOUR) == []


def test_money_that_went_back_is_told_no_more(service: Service) -> None:
    forced_with_money_kept(service)
    sweep_at(service, QUIET)
    service.receive(modification("REFUND"))

    assert sweep_at(service, HOUR) == []


def test_money_whose_way_back_is_stored_and_not_applied_is_no_case(service: Service) -> None:
    payment_id = forced_with_money_kept(service)
    service.deliver(modification("REFUND"))

    found = sweep_at(service, QUIET)

    assert [action for _payment, action, _why in found] == [Action.ESCALATE]
    assert service.payment(payment_id).funds.kept == 0
    assert cases(service) == []


def test_money_that_a_chargeback_took_is_ours_again_when_it_is_reversed(service: Service) -> None:
    payment_id = forced_with_money_kept(service)
    service.receive(modification("CHARGEBACK", reference="DISPUTE"))
    lost = told(service, in_seconds=QUIET)

    service.receive(modification("CHARGEBACK_REVERSED", reference="DISPUTE", amount_minor=500))

    assert lost == []
    assert sweep_at(service, QUIET) == [
        (payment_id, Action.ESCALATE, "5.00 EUR kept; forced_compensated by operator:ada")
    ]


def test_a_case_that_a_person_has_settled_is_opened_again_for_other_money_only(
    service: Service,
) -> None:
    payment_id = adjusted_after_its_refusal(service)
    sweep_at(service, QUIET)
    service.execute("UPDATE breaks SET state = 'resolved'")

    settled = sweep_at(service, HOUR)
    service.receive(adjustment(amount_minor=20000, minutes=50))
    found = sweep_at(service, QUIET)

    assert settled == []
    assert found == [(payment_id, Action.ESCALATE, "200.00 EUR held; authorisation_refused")]
    assert [case["state"] for case in cases(service)] == ["resolved", "open"]


def test_a_refund_that_came_back_stays_the_one_case_that_it_is(service: Service) -> None:
    """S8 names the refund; what is told after that is that the money is still here."""
    service.outside.booking.says_yes = False
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.deliver(captured())
    service.settle()
    service.receive(an_item())
    service.receive(modification("REFUND", reference="MODREFUND"))
    service.receive(modification("REFUND_FAILED", reference="MODREFUND", minutes=50))
    service.advance(QUIET)

    first = service.sweep_once()
    again = sweep_at(service, HOUR)

    assert service.payment(payment_id).state == "compensated"
    assert [(one.rule, one.action) for one in first] == [("S8", Action.ESCALATE)]
    assert [case["subject"] for case in cases(service)] == ["MODREFUND"]
    assert [(one[0], one[1]) for one in again] == [(payment_id, Action.PAGE)]


def test_sweeps_at_once_open_one_case(service: Service) -> None:
    adjusted_after_its_refusal(service)
    service.advance(QUIET)

    at_once([service.sweep_once] * 3)

    assert len(cases(service)) == 1


def test_a_sweep_of_one_account_tells_of_its_payments_alone(service: Service) -> None:
    adjusted_after_its_refusal(service)
    as_of = service.clock.at + timedelta(hours=1)

    assert service.sweep().plan(as_of=as_of, merchant_account="OtherECOM") == []


@pytest.mark.parametrize("page", [1, 2, 500])
def test_what_is_settled_uses_up_no_limit(
    service: Service, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(money_left, "PAGE", page)
    for number in range(1, 4):
        adjusted_after_its_refusal(service, number)
    sweep_at(service, QUIET)
    service.execute("UPDATE breaks SET state = 'resolved'")
    new = adjusted_after_its_refusal(service, 4)
    service.advance(QUIET)

    [finding] = service.sweep().plan(as_of=service.clock.at, limit=1)

    assert finding.payment_id == new


def test_a_case_makes_the_sweep_end_with_exit_code_3(
    service: Service, countersign: CommandLine
) -> None:
    payment_id = adjusted_after_its_refusal(service)
    service.execute("UPDATE payments SET updated_at = updated_at - interval '2 years'")

    ran = countersign("reconcile", "sweep", "--json")
    [case] = countersign("reconcile", "breaks", "--json", "--fail-on", "none").json

    assert ran.code == 3
    assert [finding["opens"] for finding in ran.json["findings"]] == ["STATUS_MISMATCH"]
    assert case["payment_id"] == str(payment_id)


#: Payments that rest, a few of them with money.
_FILL = """
    INSERT INTO payments
    SELECT (jsonb_populate_record(p, jsonb_build_object(
               'payment_id', gen_random_uuid(), 'merchant_reference', 'FILL-' || n,
               'psp_reference', 'FILL-' || n, 'updated_at', p.updated_at - n * interval '1 s',
               'funds_status', CASE WHEN n % 5000 = 0 THEN 'authorised' ELSE 'refused' END,
               'authorised', CASE WHEN n % 5000 = 0 THEN 12500 ELSE 0 END))).*
      FROM payments p, generate_series(1, 50000) n
"""


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize("is_analysed", [False, True])
def test_few_are_found_among_all_that_rest_without_reading_them(
    service: Service, *, is_analysed: bool
) -> None:
    BRING[FlowState.DECLINED](service)
    service.execute(_FILL)
    if is_analysed:
        service.execute("ANALYZE")
    values = {
        "kind": STATUS_MISMATCH,
        "quiet_since": service.clock.at,
        "after_at": "0001-01-01T00:00:00Z",
        "after": UUID(int=0),
        "merchant_account": None,
        "page": money_left.PAGE,
    }

    with service.container.engine.begin() as connection:
        found = connection.execute(
            text(f"EXPLAIN (ANALYZE, TIMING off, FORMAT JSON) {money_left.CANDIDATES.text}"),
            values,
        ).scalar_one()

    [plan] = found if isinstance(found, list) else json.loads(found)
    scans = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") == "payments"]
    assert [scan["Index Name"] for scan in scans] == ["ix_payments_money_left"]
    assert scans[0]["Actual Rows"] == 10
