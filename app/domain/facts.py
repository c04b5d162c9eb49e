"""Facts: what the *PSP* says about a payment's money, one statement at a time.

The PSP tells one statement more than once, and the date of a telling is unsigned: it may be later
the next time. Which telling is kept is a rule of the kind alone (``KEPT``), so that facts can be
learnt in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self


class FactKind(StrEnum):
    """One thing that the PSP can say about a payment's money."""

    PENDING = "pending"
    AUTHORISED = "authorised"
    REFUSED = "refused"
    ADJUSTED = "adjusted"
    OFFER_CLOSED = "offer_closed"
    CANCELLED = "cancelled"
    CANCEL_REFUSED = "cancel_refused"
    EXPIRED = "expired"
    CAPTURED = "captured"
    CAPTURE_REFUSED = "capture_refused"
    CAPTURE_FAILED = "capture_failed"
    REFUNDED = "refunded"
    REFUND_REFUSED = "refund_refused"
    REFUND_FAILED = "refund_failed"
    REFUND_REVERSED = "refund_reversed"
    UNSPECIFIED_REVERSAL = "unspecified_reversal"
    UNSPECIFIED_REVERSAL_REFUSED = "unspecified_reversal_refused"
    CHARGED_BACK = "charged_back"
    CHARGEBACK_REVERSED = "chargeback_reversed"
    CHARGED_BACK_AGAIN = "charged_back_again"


class Kept(StrEnum):
    """Which telling of a statement is kept."""

    FIRST = "first"
    LAST = "last"


_K, _FIRST, _LAST = FactKind, Kept.FIRST, Kept.LAST

KEPT = MappingProxyType(
    {
        # kind                           kept    why
        _K.PENDING:                      _FIRST,  # happens once
        _K.AUTHORISED:                   _FIRST,  # happens once: told again, it undoes no release
        _K.REFUSED:                      _FIRST,  # happens once
        _K.ADJUSTED:                     _FIRST,  # happens once: told again, it undoes no newer
        _K.OFFER_CLOSED:                 _FIRST,  # happens once
        _K.CANCELLED:                    _FIRST,  # happens once: told again, it releases no more
        _K.CANCEL_REFUSED:               _FIRST,  # happens once
        _K.EXPIRED:                      _FIRST,  # happens once: as CANCELLED
        _K.UNSPECIFIED_REVERSAL:         _FIRST,  # happens once: a failure that follows it stays
        _K.UNSPECIFIED_REVERSAL_REFUSED: _FIRST,  # happens once
        _K.CAPTURED:                     _LAST,   # done again under its reference: a re-capture
        _K.CAPTURE_REFUSED:              _LAST,   # the last word on a capture holds
        _K.CAPTURE_FAILED:               _LAST,   # a re-capture can fail again
        _K.REFUNDED:                     _LAST,   # failed is sticky, unless it is newer
        _K.REFUND_REFUSED:               _LAST,   # the last word on a refund holds
        _K.REFUND_FAILED:                _LAST,   # a repeated refund can fail again
        _K.REFUND_REVERSED:              _LAST,   # as REFUND_FAILED
        _K.CHARGED_BACK:                 _LAST,   # no date of it counts; its latest amount does
        _K.CHARGEBACK_REVERSED:          _LAST,   # as CHARGED_BACK
        _K.CHARGED_BACK_AGAIN:           _LAST,   # as CHARGED_BACK
    }
)  # fmt: skip

Slot = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One statement of the PSP.

    Attributes:
        kind: What is said.
        reference: The PSP reference that it is said of: the payment's own, the modification's or
            the dispute's. CAPTURE and CAPTURE_FAILED of one capture share it.
        amount_minor: The amount of the statement, in minor units of the payment's currency.
        occurred_at: The PSP's event date, aware. Unsigned, so that it orders facts and decides
            nothing else.
        is_repeat: True if the PSP says that it did again what had failed before (a re-capture).
        payment_reference: The payment's PSP reference, if the statement names it beside its own: a
            merchant's one payment may be two of the PSP's.
    """

    kind: FactKind
    reference: str
    amount_minor: int
    occurred_at: datetime
    is_repeat: bool = False
    payment_reference: str | None = None

    @property
    def slot(self) -> Slot:
        """What makes two facts two tellings of one statement.

        What happens once is another statement if its amount is another: each keeps its own date.
        """
        if KEPT[self.kind] is Kept.FIRST:
            return (self.kind, self.reference, str(self.amount_minor))
        return (self.kind, self.reference)

    def or_retold(self, other: "Fact") -> "Fact":
        """Return which of two facts of one slot is kept.

        It is the end of a total order, so that any grouping, order and repetition keeps the same.
        """
        end = min if KEPT[self.kind] is Kept.FIRST else max
        return end(self, other, key=Fact._rank)

    def _rank(self) -> tuple[datetime, int, bool, str]:
        return (self.occurred_at, self.amount_minor, self.is_repeat, self.payment_reference or "")

    def as_json(self) -> dict[str, object]:
        """Return the fact as plain JSON values."""
        values: dict[str, object] = {
            "kind": self.kind.value,
            "reference": self.reference,
            "amount_minor": self.amount_minor,
            "occurred_at": self.occurred_at.isoformat(),
            "is_repeat": self.is_repeat,
        }
        # Left out if unknown, as in facts that were stored before it was kept.
        if self.payment_reference is not None:
            values["payment_reference"] = self.payment_reference
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Read what ``as_json`` wrote."""
        amount_minor = values["amount_minor"]
        if not isinstance(amount_minor, int):
            raise TypeError("amount_minor is not an integer")
        payment_reference = values.get("payment_reference")
        return cls(
            kind=FactKind(str(values["kind"])),
            reference=str(values["reference"]),
            amount_minor=amount_minor,
            occurred_at=datetime.fromisoformat(str(values["occurred_at"])),
            is_repeat=bool(values["is_repeat"]),
            payment_reference=None if payment_reference is None else str(payment_reference),
        )
