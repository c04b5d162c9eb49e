"""The funds: what the *PSP* says about a payment's money, in any order and as often as it likes.

Funds are a set of facts, one slot for each statement, and a rule of its kind says which telling of
a statement the slot keeps (``app.domain.facts``). Adding facts is therefore commutative,
associative and idempotent: any order and any repetition of a payment's webhooks ends in the same
funds (psp-webhooks.md section 7). Sums and status are computed from the facts, never stored as the
result of steps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from app.domain.facts import Fact, FactKind, Slot
from app.domain.holds import Hold, holds_of

__all__ = ["Fact", "FactKind", "Funds", "FundsStatus"]  # funds are spoken of in facts


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


@dataclass(frozen=True)
class Funds:
    """The facts about one payment's money, and what follows from them. Amounts in minor units."""

    _facts: Mapping[Slot, Fact] = field(default_factory=lambda: MappingProxyType({}))

    def with_fact(self, fact: Fact) -> "Funds":
        """Return the funds that know ``fact`` too; these very funds if it is no news."""
        known = self._facts.get(fact.slot)
        kept = fact if known is None else known.or_retold(fact)
        if kept == known:
            return self
        return Funds(MappingProxyType({**self._facts, fact.slot: kept}))

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> "Funds":
        """Return the funds that follow from ``facts``, in any order."""
        kept: dict[Slot, Fact] = {}
        for fact in facts:
            known = kept.get(fact.slot)
            kept[fact.slot] = fact if known is None else known.or_retold(fact)
        return cls(MappingProxyType(kept))

    @property
    def facts(self) -> list[Fact]:
        """Every fact, in the order of the slots' names, so that equal funds print alike."""
        return [fact for _slot, fact in sorted(self._facts.items())]

    @cached_property
    def holds(self) -> list[Hold]:
        """What the PSP keeps under each reference of its own; one, as a rule."""
        return holds_of(self._facts.values())

    def has(self, *kinds: FactKind) -> bool:
        """Tell whether the PSP has said any of ``kinds``."""
        return any(fact.kind in kinds for fact in self._facts.values())

    def tells_of(self, reference: str, *kinds: FactKind) -> bool:
        """Tell whether the PSP has said anything of ``reference``, or any of ``kinds``."""
        return any(
            fact.reference == reference and (not kinds or fact.kind in kinds)
            for fact in self._facts.values()
        )

    def has_captured(self, reference: str) -> bool:
        """Tell whether the capture of this reference stands."""
        captures = (fact for hold in self.holds for fact in hold.of(FactKind.CAPTURED))
        return any(capture.reference == reference for capture in captures)

    @property
    def authorised(self) -> int:
        """The latest authorised total: an authorisation, or an adjustment of it."""
        totals = [hold.total for hold in self.holds if hold.total]
        latest = max(totals, key=lambda fact: (fact.occurred_at, fact.amount_minor), default=None)
        return latest.amount_minor if latest else 0

    @property
    def captured(self) -> int:
        """The sum of captures that stand; one that failed and was not repeated does not."""
        return sum(hold.captured for hold in self.holds)

    @property
    def refunded(self) -> int:
        """The sum of refunds that stand; one that failed or came back does not."""
        return sum(hold.refunded for hold in self.holds)

    @property
    def charged_back(self) -> int:
        """The sum of disputed amounts that are away from us now, one amount a dispute.

        A reversal brings the amount back, or part of it, and a second chargeback tells the whole
        loss anew. All three share the dispute's reference, and their dates decide nothing.
        """
        disputes = {fact.reference for fact in self._facts.values() if fact.kind in _DISPUTED}
        return sum(map(self._lost_in, disputes))

    @property
    def cancelled(self) -> int:
        """What was released of the holds: all that was authorised and not captured by then."""
        return sum(hold.cancelled for hold in self.holds)

    @property
    def held(self) -> int:
        """What is still on hold at the shopper's bank."""
        return sum(hold.held for hold in self.holds)

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
        if self.held:
            return FundsStatus.AUTHORISED
        return self._status_without_money()

    def _status_without_money(self) -> FundsStatus:
        releases = {release.kind for hold in self.holds for release in hold.releases}
        truths = (
            (FactKind.EXPIRED in releases, FundsStatus.EXPIRED),
            (bool(releases), FundsStatus.CANCELLED),
            (self.has(FactKind.AUTHORISED), FundsStatus.AUTHORISED),
            (self.has(FactKind.REFUSED), FundsStatus.REFUSED),
            (self.has(FactKind.OFFER_CLOSED), FundsStatus.EXPIRED),
            (self.has(FactKind.PENDING), FundsStatus.PENDING),
        )
        return next((status for is_so, status in truths if is_so), FundsStatus.NONE)

    def _lost_in(self, dispute: str) -> int:
        told = {
            fact.kind: fact.amount_minor
            for fact in self._facts.values()
            if fact.reference == dispute
        }
        returned = told.get(FactKind.CHARGEBACK_REVERSED, 0)
        remaining = max(told.get(FactKind.CHARGED_BACK, 0) - returned, 0)
        return told.get(FactKind.CHARGED_BACK_AGAIN, remaining)


_DISPUTED = (FactKind.CHARGED_BACK, FactKind.CHARGED_BACK_AGAIN)
