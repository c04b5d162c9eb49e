"""What came of many flows, held against the simulator's own books: one by one, and by count."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from app.domain.payment import Payment
from tests.support.naive import Page
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


def rest_problems_of(payment: Payment, page: Page, *, is_in_time: bool) -> Iterator[str]:
    """Tell what is wrong with a payment of a model that rests, beside its page of naive books.

    Args:
        payment: As it rests.
        page: What the outside has on it.
        is_in_time: Whether all that the PSP had to tell was told within the decision window.
    """
    flow, state = page.flow, payment.state
    name = f"{state} ({payment.reason}), {page}"
    if state not in _ends_of(page, is_in_time=is_in_time):
        yield f"rests where it must not: {name}"
    is_booked, money = page.booking == "confirmed", page.held + page.kept
    if state == "fin":
        is_paid = flow.is_automatic and "CAPTURE FAILED" not in flow.words
        is_there = page.is_expired or money == flow.amount_minor
        is_right = is_booked and is_there and bool(page.kept) == is_paid
    elif state == "manual_review":
        is_right = money <= flow.amount_minor
    else:
        is_right = not is_booked and page.held == page.kept == 0
    if not is_right:
        yield f"the books are not as they should be: {name}"
    funds = payment.funds
    ours = (funds.authorised, funds.captured, funds.cancelled, funds.refunded)
    theirs = (page.authorised, page.captured, page.cancelled, page.refunded)
    if ours != theirs and not flow.is_never_told:
        yield f"we count {ours}: {name}"


def _ends_of(page: Page, *, is_in_time: bool) -> AbstractSet[str]:
    """Where its words allow; troubles and late webhooks may undo what would have worked."""
    flow = page.flow
    if is_in_time and not (page.is_troubled or page.is_expired):
        return flow.ends
    undone = {"declined", "manual_review" if "CANCEL FAILED" in flow.words else "compensated"}
    if page.is_expired:  # a cancellation may have been refused before we heard of it
        undone |= {"compensated", "manual_review"}
    if page.is_unsure:
        undone.add("manual_review")
    return flow.ends | undone


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
