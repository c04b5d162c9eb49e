"""Participants for a contract suite: the fakes, or the real ones in front of the simulator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.payment import Payment
from app.services.ports import Participants
from tests.support.fakes import FakeOutside, FakeParty
from tests.support.simulator import Simulator


@dataclass(frozen=True)
class Stage:
    """Gateways, and how to learn what took effect behind them.

    Attributes:
        prepare: Makes the services behave as the payment's words say.
        effects: Counts a payment's effects of one kind.
    """

    participants: Participants
    prepare: Callable[[Payment], None]
    effects: Callable[[Payment, str], int]


def fake_stage() -> Stage:
    outside = FakeOutside()

    def prepare(payment: Payment) -> None:
        details = payment.details
        outside.booking.says_yes = not details["booking"]["reference"].startswith("FAIL-")
        outside.fraud.says_yes = not details["shopper"]["email"].startswith("fraud@")
        outside.mail.says_yes = not details["shopper"]["email"].startswith("bounce@")
        is_declined = details["payment_method"]["holder_name"] == "DECLINED"
        outside.psp.result = "Refused" if is_declined else "Authorised"

    def effects(_payment: Payment, what: str) -> int:
        name = what.removeprefix("unbook").removeprefix("void") or "cancel"
        booking = what in {"confirm", "unbook"}
        party: FakeParty = outside.booking if booking else outside.psp
        if what == "send":
            party = outside.mail
        return list(party.effects.values()).count(name)

    return Stage(outside.participants(), prepare, effects)


def real_stage(simulator: Simulator, participants: Participants) -> Stage:
    def effects(payment: Payment, what: str) -> int:
        books = simulator.books()
        mine = [
            one
            for one in books["payments"]
            if one["merchant_reference"] == payment.merchant_reference
        ]
        bookings = [
            one for one in books["bookings"] if one["payment_id"] == str(payment.payment_id)
        ]
        kinds = [change["kind"] for one in mine for change in one["modifications"]]
        mails = [one for one in books["mails"] if str(payment.payment_id) in one["message_id"]]
        found: Mapping[str, Any] = {
            "authorise": sum(one["authorisations"] for one in mine),
            "capture": kinds.count("capture"),
            "void": kinds.count("cancel"),
            "refund": kinds.count("refund"),
            "confirm": sum(one["confirmations"] for one in bookings),
            "unbook": sum(one["cancellations"] for one in bookings),
            "send": len(mails),
        }
        return int(found[what])

    return Stage(participants, lambda _: None, effects)
