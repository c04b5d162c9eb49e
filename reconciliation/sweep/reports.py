"""S10: reports that the PSP should have announced, and did not.

Settlement reports are numbered, and daily ones are dated, so that a hole in what was announced is a
report that is missing. Whether the account has a report of a kind at all is told by those that came
before. ``holes`` is pure; fetching is not the sweep's.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from reconciliation.sweep.cases import NO_AMOUNT, states_of_cases
from reconciliation.sweep.findings import Action, Case, Finding, Look
from reconciliation.sweep.rules import LOOKS_BACK, REPORT_FETCHED_EVERY, REPORT_GIVEN_UP_AFTER

FILE_GAP = "FILE_GAP"

#: Reports that the PSP makes for every day, also for one without payments (psp-reports.md 1.1).
DAILY = ("payments_accounting_report", "received_payments_report")

#: A day's report is there by then on the day after, in the PSP's own time zone.
NOON = time(12)
ZONE = "Europe/Amsterdam"

#: Files of one hole that are named: a number that jumps by millions is a slip of somebody's.
FILES_MAX = 1000

_BATCH = re.compile(
    r"settlement_detail_report_batch_(\d{1,9})(?:_\d{4}[_-]\d{2}[_-]\d{2})?\.(?:csv|xlsx)"
)
_DAY = re.compile(rf"({'|'.join(DAILY)})_(\d{{4}})_(\d{{2}})_(\d{{2}})\.csv")

_ANNOUNCED = text(
    """
    SELECT merchant_account, psp_reference AS file, received_at AS at FROM webhook_inbox
     WHERE event_code = 'REPORT_AVAILABLE' AND success
       AND received_at > :looks_back_to AND received_at <= :as_of
       AND (CAST(:merchant_account AS text) IS NULL OR merchant_account = :merchant_account)
    """
)

#: One that was announced longer ago than we look back is no hole.
_EVER_ANNOUNCED = text(
    """
    SELECT psp_reference FROM webhook_inbox
     WHERE merchant_account = :merchant_account AND psp_reference = ANY(:files)
       AND event_code = 'REPORT_AVAILABLE' AND received_at <= :as_of
    """
)


@dataclass(frozen=True, slots=True)
class Announced:
    """A report that the PSP told us of."""

    merchant_account: str
    file: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Reports that are missing one after the other.

    Attributes:
        kind: What kind of report.
        files: Their names, in order.
        since: When the first of them should have been there.
        why: How we know.
    """

    merchant_account: str
    kind: str
    files: tuple[str, ...]
    since: datetime
    why: str


def find_missing(connection: Connection, look: Look) -> list[Finding]:
    """Return the reports that are missing, but those that a person was told of."""
    values = look.values | {"looks_back_to": look.as_of - LOOKS_BACK}
    announced = [Announced(*row) for row in connection.execute(_ANNOUNCED, values)]
    found = []
    for hole in holes(announced, as_of=look.as_of):
        files = _left_over(connection, hole, look)
        if files:
            found.append(_finding(hole, files, look.as_of))
    return found[: look.limit]


def holes(announced: Iterable[Announced], *, as_of: datetime) -> Iterator[Hole]:
    """Yield what is missing between the reports that were announced, and after the last daily one.

    Args:
        announced: In any order; reports of other kinds are passed over.
        as_of: Aware UTC.
    """
    batches: dict[str, dict[int, datetime]] = defaultdict(dict)
    days: dict[tuple[str, str], set[date]] = defaultdict(set)
    for one in announced:
        if batch := _BATCH.fullmatch(one.file):
            of_account = batches[one.merchant_account]
            number = int(batch[1])
            of_account[number] = min(one.at, of_account.get(number, one.at))
        elif daily := _DAY.fullmatch(one.file):
            day = _day(daily)
            if day is not None and day <= as_of.date():
                days[one.merchant_account, daily[1]].add(day)
    for account, announced_at in sorted(batches.items()):
        yield from _skipped_batches(account, announced_at)
    for (account, kind), told in sorted(days.items()):
        yield from _missing_days(account, kind, told, as_of)


def _skipped_batches(account: str, announced_at: Mapping[int, datetime]) -> Iterator[Hole]:
    """Yield the numbers that were passed over, each since a higher one was announced first."""
    numbers = sorted(announced_at)
    for before, after in pairwise(numbers):
        missing = range(before + 1, after)[:FILES_MAX]
        if missing:
            yield Hole(
                merchant_account=account,
                kind="settlement_detail_report",
                files=tuple(f"settlement_detail_report_batch_{number}.csv" for number in missing),
                since=min(announced_at[number] for number in numbers if number >= after),
                why=f"batch {after} was announced",
            )


def _missing_days(
    account: str, kind: str, told: Collection[date], as_of: datetime
) -> Iterator[Hole]:
    """Yield runs of days without a report, from the first day that has one."""
    day = max(min(told), (as_of - LOOKS_BACK).date())
    run: list[date] = []
    while _due(day) <= as_of:
        if day not in told:
            run.append(day)
        elif run:
            yield _days_hole(account, kind, run)
            run = []
        day += timedelta(days=1)
    if run:
        yield _days_hole(account, kind, run)


def _days_hole(account: str, kind: str, days: list[date]) -> Hole:
    return Hole(
        merchant_account=account,
        kind=kind,
        files=tuple(f"{kind}_{day:%Y_%m_%d}.csv" for day in days),
        since=_due(days[0]),
        why=f"not announced by {NOON:%H:%M} in {ZONE}",
    )


def _due(day: date) -> datetime:
    """Return when the report of a day has to be there, aware UTC."""
    noon = datetime.combine(day + timedelta(days=1), NOON, tzinfo=ZoneInfo(ZONE))
    return noon.astimezone(UTC)


def _day(name: re.Match[str]) -> date | None:
    try:
        return date(int(name[2]), int(name[3]), int(name[4]))
    except ValueError:
        return None


def _left_over(connection: Connection, hole: Hole, look: Look) -> tuple[str, ...]:
    """Return the files of a hole that nobody has seen to; none while a case about it is open."""
    account, files = hole.merchant_account, list(hole.files)
    cases = states_of_cases(connection, FILE_GAP, account, files)
    if "open" in cases.values():
        return ()
    values = {"merchant_account": account, "files": files, "as_of": look.as_of}
    announced = set(connection.execute(_EVER_ANNOUNCED, values).scalars())
    return tuple(file for file in files if file not in announced and file not in cases)


def _finding(hole: Hole, files: tuple[str, ...], as_of: datetime) -> Finding:
    is_given_up = as_of >= hole.since + REPORT_GIVEN_UP_AFTER
    tries = (as_of - hole.since) // REPORT_FETCHED_EVERY
    again = hole.since + (tries + 1) * REPORT_FETCHED_EVERY
    case = Case(
        kind=FILE_GAP,
        merchant_account=hole.merchant_account,
        subject=files[0],
        payment_id=None,
        amount=NO_AMOUNT,
    )
    return Finding(
        rule="S10",
        merchant_account=hole.merchant_account,
        subject=files[0],
        state=hole.kind,
        since=hole.since,
        action=Action.ESCALATE if is_given_up else Action.FETCH,
        why=hole.why if len(files) == 1 else f"{hole.why}; {len(files)} are missing",
        next_look=None if is_given_up else min(again, hole.since + REPORT_GIVEN_UP_AFTER),
        files=files,
        case=case if is_given_up else None,
    )
