"""What came of a replay: each webhook, and each payment before and after."""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from app.domain.payment import Payment
from app.persistence.tables import InboxState
from app.queries.payments import Json


class Result(StrEnum):
    """What came of one webhook."""

    APPLIED = "applied"
    UNCHANGED = "nothing to apply"
    PARKED = "parked"
    FAILED = "failed"
    BUSY = "busy"  #: another transaction has its payment
    TAKEN = "being applied by a worker"


#: Nothing is left to do.
_SETTLED = frozenset({Result.APPLIED, Result.UNCHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedWebhook:
    """What came of one webhook.

    Attributes:
        why: It stays on the work list; None if it does not.
        state: Where it stands now; None if a worker decides that.
        attempts: Tries that failed, this one included.
        event: Its code, outcome and reference; None if it can't be read.
        events: The kinds of what it brought about, in order.
        payment_id: The payment that it is about; None if there is none, or it is not known here.
    """

    guid: UUID
    result: Result
    why: str | None = None
    state: InboxState | None = None
    attempts: int = 0
    event: str | None = None
    events: tuple[str, ...] = ()
    payment_id: UUID | None = None

    def as_json(self, replayed: "Replayed") -> Json:
        """Return what is shown."""
        return {
            "guid": str(self.guid),
            "event": self.event,
            "result": self.result.value,
            "why": self.why,
            "state": self.state.value if self.state else None,
            "attempts": self.attempts,
            "events": list(self.events),
            "payment_id": replayed.id_of(self.payment_id),
        }


@dataclass(frozen=True, slots=True)
class PaymentDiff:
    """A payment before and after.

    Attributes:
        before: None if the replay keeps a payment that was not here.
    """

    before: Payment | None
    after: Payment

    @property
    def values_before(self) -> Json:
        """What was to be seen of it; empty if it was not here."""
        return values_of(self.before) if self.before else {}

    @property
    def values(self) -> Json:
        """What is to be seen of it, by name; amounts in minor units."""
        return values_of(self.after)

    @property
    def changed(self) -> list[str]:
        """The names of the values that differ."""
        before = self.values_before
        return [
            name
            for name, value in self.values.items()
            if name not in before or before[name] != value
        ]

    def as_json(self, replayed: "Replayed") -> Json:
        """Return what is shown; amounts in minor units."""
        return {
            "payment_id": replayed.id_of(self.after.payment_id),
            "merchant_account": self.after.merchant_account,
            "merchant_reference": self.after.merchant_reference,
            "currency": self.after.amount.currency,
            "before": self.values_before or None,
            "after": self.values,
            "changed": self.changed,
        }


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What came of a replay, or would come of it.

    Attributes:
        is_preview: Nothing of it was kept.
        webhooks: In the order in which they were asked for.
        payments: Those that the webhooks are about, by id.
    """

    is_preview: bool
    webhooks: list[ReplayedWebhook] = field(default_factory=list)
    payments: dict[UUID, PaymentDiff] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """True if each was applied, or had nothing to apply."""
        return all(one.result in _SETTLED for one in self.webhooks)

    def as_json(self) -> Json:
        """Return what is shown."""
        return {
            "dry_run": self.is_preview,
            "is_settled": self.is_settled,
            "webhooks": [one.as_json(self) for one in self.webhooks],
            "payments": [one.as_json(self) for one in self.payments.values()],
        }

    def id_of(self, payment_id: UUID | None) -> str | None:
        """Return the id under which a payment is found; None if nothing but the preview made it."""
        if payment_id is None or (self.is_preview and self.payments[payment_id].before is None):
            return None
        return str(payment_id)


def values_of(payment: Payment) -> Json:
    """Return what is to be seen of a payment, by name; amounts in minor units."""
    funds = payment.funds
    return {
        "state": payment.state.value,
        "reason": payment.reason,
        "psp_reference": payment.psp_reference,
        "version": payment.version,
        "funds_status": funds.status.value,
        "authorised": funds.authorised,
        "captured": funds.captured,
        "refunded": funds.refunded,
        "charged_back": funds.charged_back,
        "cancelled": funds.cancelled,
    }
