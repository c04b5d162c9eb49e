"""What came of many flows, held against the simulator's own books: one by one, and by count."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.trouble import Flow

Row = Mapping[str, Any]

#: What both sides count alike, and what only a webhook tells us of.
_SUMS = ("captured", "refunded", "cancelled")
_TOLD = "authorised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the simulator has on one flow: the PSP's payments, the bookings, the mails."""

    payments: Sequence[Row]
    bookings: Sequence[Row]
    mails: Sequence[Row]


def outside_of(flows: Sequence[Flow], books: Mapping[str, Any]) -> dict[str, Outside]:
    """Sort the books by flow. What belongs to no flow is refused."""
    payments = _grouped(books["payments"], lambda row: row["merchant_reference"])
    bookings = _grouped(books["bookings"], lambda row: row["reference"])
    mails = _grouped(books["mails"], lambda row: ",".join(row["recipients"]))
    found = {
        flow.reference: Outside(
            payments=payments.pop(flow.reference, []),
            bookings=bookings.pop(flow.booking, []),
            mails=mails.pop(flow.email, []),
        )
        for flow in flows
    }
    strangers = [*payments, *bookings, *mails]
    assert not strangers, f"the outside did what nobody asked for: {strangers}"
    return found


def problems_of(flow: Flow, payment: Row, outside: Outside) -> Iterator[str]:
    """Tell what is wrong with one payment, as the API shows it, beside the simulator's books."""
    state, funds = payment["state"], payment["funds"]
    if state not in flow.ends:
        yield f"rests in {state}, not in {' or '.join(flow.ends)}"
    authorisations = [row["authorisations"] for row in outside.payments]
    if authorisations != ([] if "fraud@" in flow.words else [int(flow.is_authorised)]):
        yield f"authorised so often: {authorisations}"
    sums = {name: sum(row[name] for row in outside.payments) for name in (_TOLD, *_SUMS)}
    if sums != _sums_of(flow, state):
        yield f"{state}, but at the PSP {sums}"
    if any(funds[name] != sums[name] for name in (_SUMS if flow.is_never_told else sums)):
        yield f"the PSP has {sums}, we have {funds}"
    if payment["amount"] != {"value": flow.amount_minor, "currency": "EUR"}:
        yield f"another amount: {payment['amount']}"
    yield from _modifications(flow, outside)
    yield from _services(flow, state, outside)


def _sums_of(flow: Flow, state: str) -> dict[str, int]:
    """What the PSP's books must show of a flow that rests in ``state``."""
    amount = flow.amount_minor
    is_captured = state == "fin" and flow.is_automatic and "CAPTURE FAILED" not in flow.words
    return {
        "authorised": amount if flow.is_authorised else 0,
        "captured": amount if is_captured else 0,
        "refunded": 0,
        "cancelled": amount if state == "compensated" else 0,
    }


def _modifications(flow: Flow, outside: Outside) -> Iterator[str]:
    """No capture and no cancel twice, and none of another amount."""
    asked = [modification for row in outside.payments for modification in row["modifications"]]
    kinds = Counter(modification["kind"] for modification in asked)
    if any(times > 1 for times in kinds.values()):
        yield f"asked more than once: {asked}"
    if any(modification["amount"] != flow.amount_minor for modification in asked):
        yield f"asked for another amount: {asked}"


def _services(flow: Flow, state: str, outside: Outside) -> Iterator[str]:
    """A booking and a mail for each payment that is ``fin``, and for no other."""
    confirmed = [row for row in outside.bookings if row["status"] == "confirmed"]
    if len(confirmed) != (state == "fin"):
        yield f"{state}, with bookings {outside.bookings}"
    if any(row["confirmations"] > 1 or row["cancellations"] > 1 for row in outside.bookings):
        yield f"booked or cancelled twice: {outside.bookings}"
    message_ids = {mail["message_id"] for mail in outside.mails}
    if len(message_ids) != (state == "fin" and "bounce@" not in flow.words):
        yield f"{state}, with mails {message_ids}"


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
