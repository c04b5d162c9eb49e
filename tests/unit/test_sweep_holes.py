"""Which reports are missing, told by those that were announced (F63 for the clock changes)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from reconciliation.sweep.reports import FILES_MAX, Announced, Hole, holes

ACCOUNT = "CountersignECOM"
MONDAY = datetime(2026, 11, 16, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def announced(*files: str, at: datetime = MONDAY) -> list[Announced]:
    return [Announced(ACCOUNT, file, at) for file in files]


def batch(number: int, *, at: datetime = MONDAY) -> Announced:
    return Announced(ACCOUNT, f"settlement_detail_report_batch_{number}.csv", at)


def daily(day: str, *, kind: str = "payments_accounting_report") -> Announced:
    return Announced(ACCOUNT, f"{kind}_{day}.csv", MONDAY)


def found(reports: Sequence[Announced], as_of: datetime = MONDAY) -> list[Hole]:
    return list(holes(reports, as_of=as_of))


def test_batches_in_a_row_have_no_hole() -> None:
    assert found([batch(7), batch(8), batch(9)]) == []


def test_numbers_that_were_passed_over_are_one_hole_since_the_first_higher_one() -> None:
    reports = [batch(7), batch(10, at=MONDAY + 2 * DAY), batch(11, at=MONDAY + DAY)]

    [hole] = found(reports)

    assert hole.files == (
        "settlement_detail_report_batch_8.csv",
        "settlement_detail_report_batch_9.csv",
    )
    assert hole.since == MONDAY + DAY


def test_the_order_of_announcements_does_not_matter() -> None:
    reports = [batch(number, at=MONDAY + number * DAY) for number in (1, 2, 5, 9, 10, 14)]
    shuffled = Random(1).sample(reports, len(reports))

    assert found(shuffled) == found(reports)
    assert len(found(reports)) == 3


@pytest.mark.parametrize(
    "file",
    [
        "settlement_detail_report_batch_8_2026_11_16.xlsx",
        "settlement_detail_report_batch_8_2026-11-16.csv",
    ],
)
def test_a_batch_under_a_dated_name_is_that_batch(file: str) -> None:
    assert found([batch(7), *announced(file), batch(9)]) == []


def test_another_accounts_batch_fills_no_hole() -> None:
    theirs = Announced("OtherECOM", "settlement_detail_report_batch_8.csv", MONDAY)

    assert [hole.merchant_account for hole in found([batch(7), theirs, batch(9)])] == [ACCOUNT]


def test_a_number_that_jumps_by_millions_names_no_more_files_than_anybody_reads() -> None:
    [hole] = found([batch(1), batch(999_999_999)])

    assert len(hole.files) == FILES_MAX


@pytest.mark.parametrize(
    "file",
    [
        "settlement_detail_report_2026-11-16.csv",
        "dispute_report_2026_11_01.csv",
        "payments_accounting_report_2026_13_45.csv",
        "payments_accounting_report_9999_12_31.csv",
        "test_REPORT_AVAILABLE",
        "",
    ],
)
def test_other_names_tell_of_no_hole(file: str) -> None:
    assert found(announced(file), MONDAY + 10 * DAY) == []


def test_a_daily_report_is_missing_from_noon_of_the_day_after() -> None:
    reports = [daily("2026_11_14")]
    noon = datetime(2026, 11, 16, 11, tzinfo=UTC)  # 12:00 CET, for the report of Sunday

    before = found(reports, noon - timedelta(microseconds=1))
    [hole] = found(reports, noon)

    assert before == []
    assert hole.files == ("payments_accounting_report_2026_11_15.csv",)
    assert hole.since == noon


@pytest.mark.parametrize(
    ("day", "noon"),
    [
        ("2026_03_27", datetime(2026, 3, 28, 11, tzinfo=UTC)),
        ("2026_03_28", datetime(2026, 3, 29, 10, tzinfo=UTC)),  # the night has an hour less
        ("2026_10_23", datetime(2026, 10, 24, 10, tzinfo=UTC)),
        ("2026_10_24", datetime(2026, 10, 25, 11, tzinfo=UTC)),  # the night has an hour more
    ],
)
def test_noon_is_the_psps_own_also_when_its_clocks_change(day: str, noon: datetime) -> None:
    """F63."""
    missing = datetime.strptime(day, "%Y_%m_%d").replace(tzinfo=UTC)
    reports = [daily(f"{missing - DAY:%Y_%m_%d}")]

    assert found(reports, noon - timedelta(seconds=1)) == []
    assert [hole.since for hole in found(reports, noon)] == [noon]


def test_days_in_a_row_are_one_hole_and_each_kind_has_its_own() -> None:
    reports = [
        daily("2026_11_10"),
        daily("2026_11_13"),
        daily("2026_11_12", kind="received_payments_report"),
    ]

    missing = [hole.files for hole in found(reports, datetime(2026, 11, 14, 12, tzinfo=UTC))]

    assert missing == [
        ("payments_accounting_report_2026_11_11.csv", "payments_accounting_report_2026_11_12.csv"),
        ("received_payments_report_2026_11_13.csv",),
    ]


def test_an_account_that_never_had_a_daily_report_misses_none() -> None:
    assert found([batch(1), batch(2)], MONDAY + 10 * DAY) == []
