"""Rule S10: reports that the PSP should have announced, and did not."""

from datetime import UTC, datetime, timedelta

from reconciliation.sweep import Action, Finding
from tests.support.builders import ACCOUNT, NOW, OTHER_HMAC_KEY, a_webhook, an_item
from tests.support.service import Row, Service

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: 12:00 in Amsterdam on the day of the tests.
NOON = datetime(2026, 11, 20, 11, tzinfo=UTC)


def announce(service: Service, file: str, *, success: bool = True) -> None:
    """Let the PSP tell of a report; it is about no payment, and done at once."""
    service.receive(
        an_item(
            "REPORT_AVAILABLE",
            success=success,
            psp_reference=file,
            merchant_reference="",
            amount_minor=0,
            reason=f"https://ca-test.adyen.com/reports/download/MerchantAccount/{ACCOUNT}/{file}",
        )
    )


def batch(number: int) -> str:
    return f"settlement_detail_report_batch_{number}.csv"


def planned(service: Service, *, at: datetime) -> list[Finding]:
    return service.sweep().plan(as_of=at)


def sweep_at(service: Service, at: datetime) -> list[tuple[Action, str]]:
    service.clock.at = at
    return [(one.action, one.subject) for one in service.sweep_once()]


def cases(service: Service) -> list[Row]:
    return service.rows(
        "SELECT kind, state, merchant_account, payment_id, subject, amount_minor, currency"
        " FROM breaks ORDER BY opened_at"
    )


def test_a_batch_that_was_skipped_is_fetched_every_hour_and_a_case_after_two_days(
    service: Service,
) -> None:
    announce(service, batch(1))
    announce(service, batch(3))

    [first] = planned(service, at=NOW)
    [later] = planned(service, at=NOW + timedelta(minutes=90))
    [last] = planned(service, at=NOW + timedelta(days=2, seconds=-1))
    found = sweep_at(service, NOW + timedelta(days=2))
    again = sweep_at(service, NOW + timedelta(days=2, hours=1))

    assert (first.rule, first.action, first.files) == ("S10", Action.FETCH, (batch(2),))
    assert first.next_look == NOW + timedelta(hours=1)
    assert later.next_look == NOW + timedelta(hours=2)
    assert last.action is Action.FETCH
    assert found == [(Action.ESCALATE, batch(2))]
    assert again == []
    assert cases(service) == [
        {
            "kind": "FILE_GAP",
            "state": "open",
            "merchant_account": ACCOUNT,
            "payment_id": None,
            "subject": batch(2),
            "amount_minor": 0,
            "currency": "XXX",
        }
    ]


def test_fetching_changes_nothing_here(service: Service) -> None:
    announce(service, batch(1))
    announce(service, batch(3))

    found = sweep_at(service, NOW + timedelta(hours=1))

    assert found == [(Action.FETCH, batch(2))]
    assert cases(service) == []


def test_a_batch_that_comes_late_is_missing_no_longer(service: Service) -> None:
    announce(service, batch(1))
    announce(service, batch(3))
    announce(service, batch(2))

    assert planned(service, at=NOW + timedelta(days=2)) == []


def test_a_batch_that_was_announced_before_we_look_back_is_no_hole(service: Service) -> None:
    announce(service, batch(2))
    service.advance(60 * DAY)
    announce(service, batch(1))  # told again under another name, or just late
    announce(service, batch(3))

    assert planned(service, at=service.clock.at) == []


def test_a_daily_report_is_missing_from_noon_in_amsterdam(service: Service) -> None:
    announce(service, "payments_accounting_report_2026_11_18.csv")

    before = planned(service, at=NOON - timedelta(seconds=1))
    [finding] = planned(service, at=NOON)

    assert before == []
    assert (finding.rule, finding.action) == ("S10", Action.FETCH)
    assert finding.files == ("payments_accounting_report_2026_11_19.csv",)
    assert finding.since == NOON


def test_daily_reports_that_stay_away_are_one_case_however_long(service: Service) -> None:
    announce(service, "payments_accounting_report_2026_11_18.csv")

    found = [sweep_at(service, NOON + timedelta(days=days)) for days in range(5)]

    file = "payments_accounting_report_2026_11_19.csv"
    assert found == [[(Action.FETCH, file)]] * 2 + [[(Action.ESCALATE, file)]] + [[]] * 2
    assert [case["subject"] for case in cases(service)] == [file]


def test_what_is_missing_after_a_settled_case_is_a_case_of_its_own(service: Service) -> None:
    announce(service, batch(1))
    announce(service, batch(3))
    sweep_at(service, NOW + timedelta(days=2))
    service.execute("UPDATE breaks SET state = 'resolved'")
    announce(service, batch(5))

    assert sweep_at(service, NOW + timedelta(days=2)) == [(Action.FETCH, batch(4))]
    assert sweep_at(service, NOW + timedelta(days=4)) == [(Action.ESCALATE, batch(4))]


def test_a_sweep_of_one_account_looks_for_its_reports_alone(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])
    for number in (1, 3):
        item = an_item(
            "REPORT_AVAILABLE",
            psp_reference=batch(number),
            merchant_reference="",
            merchant_account="OtherECOM",
        )
        assert service.post_webhook(a_webhook(item, key=OTHER_HMAC_KEY)).status_code == 200
    service.settle()
    sweep = service.sweep()

    assert sweep.plan(as_of=NOW, merchant_account=ACCOUNT) == []
    assert len(sweep.plan(as_of=NOW, merchant_account="OtherECOM")) == 1
