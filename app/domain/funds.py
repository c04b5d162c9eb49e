"""The funds: what the *PSP* says about a payment's money, in any order and as often as it likes.

Funds are a set of facts, one slot for each (kind, reference), and the newest fact of a slot wins.
Adding facts is therefore commutative, associative and idempotent: any order and any repetition of a
payment's webhooks ends in the same funds (psp-webhooks.md section 7). Sums and status are computed
from the facts, never stored as the result of steps.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
    CHARGED_BACK = "charged_back"
    CHARGEBACK_REVERSED = "chargeback_reversed"
    CHARGED_BACK_AGAIN = "charged_back_again"


class FundsStatus(StrEnum):
    """Where the money is, as a function of the sums (contract.md section 5)."""

    NONE = "none"
    PENDING = "pending"
    REFUSED = "refused"
    AUTHORISED = "authorised"
    PARTIALLY_CAPTURED = "partially_captured"
    CAPTURED = "captured"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    CHARGED_BACK = "charged_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One statement of the PSP.

    Attributes:
        kind: What is said.
        reference: The PSP reference that it is said of: the payment's own, the modification's or
            the dispute's. CAPTURE and CAPTURE_FAILED of one capture share it.
        amount_minor: The amount of the statement, in minor units of the payment's currency.
        occurred_at: The PSP's event date, aware. Unsigned, so that it orders facts and decides
            nothing else: the newest of a slot, a release before or after its authorisation.
        is_repeat: True if the PSP says that it did again what had failed before (a re-capture).
    """

    kind: FactKind
    reference: str
    amount_minor: int
    occurred_at: datetime
    is_repeat: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the fact as plain JSON values."""
        return {
            "kind": self.kind.value,
            "reference": self.reference,
            "amount_minor": self.amount_minor,
            "occurred_at": self.occurred_at.isoformat(),
            "is_repeat": self.is_repeat,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Read what ``as_json`` wrote."""
        amount_minor = values["amount_minor"]
        if not isinstance(amount_minor, int):
            raise TypeError("amount_minor is not an integer")
        return cls(
            kind=FactKind(str(values["kind"])),
            reference=str(values["reference"]),
            amount_minor=amount_minor,
            occurred_at=datetime.fromisoformat(str(values["occurred_at"])),
            is_repeat=bool(values["is_repeat"]),
        )

    @property
    def _rank(self) -> tuple[datetime, int, bool]:
        return (self.occurred_at, self.amount_minor, self.is_repeat)


_Slots = Mapping[tuple[FactKind, str], Fact]


@dataclass(frozen=True, slots=True)
class Funds:
    """The facts about one payment's money, and what follows from them. Amounts in minor units."""

    _facts: _Slots = field(default_factory=lambda: MappingProxyType({}))

    def with_fact(self, fact: Fact) -> "Funds":
        """Return the funds with ``fact`` in its slot, unless the slot holds a newer one."""
        slot = (fact.kind, fact.reference)
        known = self._facts.get(slot)
        if known is not None and known._rank >= fact._rank:  # noqa: SLF001  # the same module
            return self
        return Funds(MappingProxyType({**self._facts, slot: fact}))

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> "Funds":
        """Return the funds that follow from ``facts``, in any order."""
        funds = cls()
        for fact in facts:
            funds = funds.with_fact(fact)
        return funds

    @property
    def facts(self) -> list[Fact]:
        """Every fact, in the order of the slots' names, so that equal funds print alike."""
        return [fact for _slot, fact in sorted(self._facts.items())]

    def has(self, *kinds: FactKind) -> bool:
        """Tell whether the PSP has said any of ``kinds``."""
        return any(fact.kind in kinds for fact in self._facts.values())

    def tells_of(self, reference: str) -> bool:
        """Tell whether the PSP has said anything of ``reference``."""
        return any(told == reference for _kind, told in self._facts)

    @property
    def authorised(self) -> int:
        """The latest authorised total: an authorisation, or an adjustment of it."""
        totals = self._of(FactKind.AUTHORISED, FactKind.ADJUSTED)
        latest = max(totals, key=lambda fact: (fact.occurred_at, fact.amount_minor), default=None)
        return latest.amount_minor if latest else 0

    @property
    def captured(self) -> int:
        """The sum of captures that stand; one that failed and was not repeated does not."""
        return sum(
            capture.amount_minor
            for capture in self._of(FactKind.CAPTURED)
            if not self._is_undone_by(capture, FactKind.CAPTURE_FAILED)
        )

    @property
    def refunded(self) -> int:
        """The sum of refunds that stand; one that failed or came back does not."""
        return sum(
            refund.amount_minor
            for refund in self._of(FactKind.REFUNDED)
            if not self._is_undone_by(refund, FactKind.REFUND_FAILED)
            and not self._is_undone_by(refund, FactKind.REFUND_REVERSED)
        )

    @property
    def charged_back(self) -> int:
        """The sum of disputed amounts that are away from us now, one amount a dispute.

        A reversal brings the amount back and a second chargeback takes it again; all three share
        the dispute's reference, so their presence alone decides, in any order.
        """
        total = 0
        for (kind, dispute), fact in self._facts.items():
            if kind is FactKind.CHARGED_BACK_AGAIN or (
                kind is FactKind.CHARGED_BACK
                and (FactKind.CHARGEBACK_REVERSED, dispute) not in self._facts
                and (FactKind.CHARGED_BACK_AGAIN, dispute) not in self._facts
            ):
                total += fact.amount_minor
        return total

    @property
    def cancelled(self) -> int:
        """What was released of the hold: all that was authorised and not captured by then.

        While no authorisation is known, the release itself tells how much was held.
        """
        releases = self._releases
        if not releases:
            return 0
        held = self.authorised or max(release.amount_minor for release in releases)
        return max(held - self.captured, 0)

    @property
    def held(self) -> int:
        """What is still on hold at the shopper's bank."""
        return max(self.authorised - self.captured - self.cancelled, 0)

    @property
    def kept(self) -> int:
        """What we were paid and have not given back."""
        return max(self.captured - self.refunded, 0)

    @property
    def status(self) -> FundsStatus:
        """Name the state of the money; the most serious truth first."""
        if self.charged_back:
            return FundsStatus.CHARGED_BACK
        if self.refunded:
            whole = self.refunded >= self.captured
            return FundsStatus.REFUNDED if whole else FundsStatus.PARTIALLY_REFUNDED
        if self.captured:
            whole = self.captured >= self.authorised
            return FundsStatus.CAPTURED if whole else FundsStatus.PARTIALLY_CAPTURED
        if releases := self._releases:
            has_expired = any(release.kind is FactKind.EXPIRED for release in releases)
            return FundsStatus.EXPIRED if has_expired else FundsStatus.CANCELLED
        if self.authorised:
            return FundsStatus.AUTHORISED
        return self._status_without_authorisation()

    def _status_without_authorisation(self) -> FundsStatus:
        if self.has(FactKind.REFUSED):
            return FundsStatus.REFUSED
        if self.has(FactKind.OFFER_CLOSED):
            return FundsStatus.EXPIRED
        if self.has(FactKind.PENDING):
            return FundsStatus.PENDING
        return FundsStatus.NONE

    @property
    def _releases(self) -> list[Fact]:
        """The releases that released something.

        One from before the latest authorisation has nothing to do with what came after, and a void
        of what was only refused found nothing to release, though the PSP confirms it.
        """
        if self.has(FactKind.REFUSED) and not self.has(FactKind.AUTHORISED, FactKind.CAPTURED):
            return []
        authorised_at = max((f.occurred_at for f in self._of(FactKind.AUTHORISED)), default=None)
        return [
            release
            for release in self._of(FactKind.CANCELLED, FactKind.EXPIRED)
            if authorised_at is None or release.occurred_at >= authorised_at
        ]

    def _of(self, *kinds: FactKind) -> Iterator[Fact]:
        return (fact for fact in self._facts.values() if fact.kind in kinds)

    def _is_undone_by(self, fact: Fact, failure: FactKind) -> bool:
        """Tell whether ``failure`` of the same reference outweighs ``fact``.

        The later event date decides. On a tie the failure wins, since it can only follow, unless
        the PSP says that it repeated what had failed.
        """
        failed = self._facts.get((failure, fact.reference))
        if failed is None:
            return False
        if failed.occurred_at == fact.occurred_at:
            return not fact.is_repeat
        return failed.occurred_at > fact.occurred_at
