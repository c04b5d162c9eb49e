"""Holds: what the PSP keeps for a payment under one reference of its own, and what became of it.

As a rule a payment is one hold. It is two when the PSP authorised it twice: then the release of
one leaves the other standing. Holds are computed from the whole set of facts, so that the order in
which the facts came can't show.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from app.domain.facts import Fact, FactKind

_K = FactKind

#: What undoes a statement of the same reference if it is dated later, and whether it wins a tie: a
#: failure can only follow what failed; of two answers to one request, a yes stands.
_UNDONE_BY: Mapping[FactKind, Mapping[FactKind, bool]] = MappingProxyType(
    {
        _K.CAPTURED: {_K.CAPTURE_FAILED: True, _K.CAPTURE_REFUSED: False},
        _K.REFUNDED: {_K.REFUND_FAILED: True, _K.REFUND_REVERSED: True, _K.REFUND_REFUSED: False},
        _K.UNSPECIFIED_REVERSAL: {_K.REFUND_FAILED: True, _K.REFUND_REVERSED: True},
    }
)

#: What a reversal turns out to have been, once the PSP says it.
_SPECIFIC = (_K.CANCELLED, _K.REFUNDED)

_RELEASES = (_K.CANCELLED, _K.EXPIRED, _K.UNSPECIFIED_REVERSAL)

#: Carry the payment's own reference, unless they name it beside their own.
_OWN = (_K.AUTHORISED, _K.REFUSED, _K.EXPIRED)

_MAKE_A_HOLD = frozenset({*_OWN, *_RELEASES, _K.ADJUSTED, _K.CAPTURED, _K.REFUNDED})


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold, as the facts that are about it and stand. Amounts in minor units.

    Attributes:
        reference: The PSP's for it; empty if no statement named one.
    """

    reference: str
    facts: tuple[Fact, ...]

    def of(self, *kinds: FactKind) -> list[Fact]:
        """Return the facts of these kinds."""
        return [fact for fact in self.facts if fact.kind in kinds]

    @property
    def total(self) -> Fact | None:
        """The statement of how much is authorised: the latest adjustment, else the authorisation.

        An adjustment can only follow its authorisation, so that their dates are not compared.
        """
        totals = self.of(_K.ADJUSTED) or self.of(_K.AUTHORISED)
        return max(totals, key=lambda fact: (fact.occurred_at, fact.amount_minor), default=None)

    @property
    def authorised(self) -> int:
        """The authorised total; 0 while none is known."""
        return self.total.amount_minor if self.total else 0

    @property
    def captured(self) -> int:
        """The sum of the captures."""
        return sum(capture.amount_minor for capture in self.of(_K.CAPTURED))

    @property
    def refunded(self) -> int:
        """The sum of the refunds. A reversal gave back all that was captured, if anything was."""
        told = sum(refund.amount_minor for refund in self.of(_K.REFUNDED))
        return max(told, self.captured) if self.of(_K.UNSPECIFIED_REVERSAL) else told

    @property
    def releases(self) -> list[Fact]:
        """The releases that released something.

        One from before the authorisation has nothing to do with what came after, and a void of what
        was only refused found nothing to release, though the PSP confirms it. Dates are of whole
        seconds: of one second, a void by our reference may have overtaken the authorisation, and
        does not count; a release that names the PSP's reference can only have followed it.
        """
        if self.of(_K.REFUSED) and not self.of(_K.AUTHORISED, _K.CAPTURED):
            return []
        authorised_at = min((fact.occurred_at for fact in self.of(_K.AUTHORISED)), default=None)
        return [
            release
            for release in self.of(*_RELEASES)
            if authorised_at is None
            or (release.occurred_at, _named_by(release) is not None) > (authorised_at, False)
        ]

    @property
    def cancelled(self) -> int:
        """What was released: all that was authorised and is not captured.

        While no authorisation is known, the release itself tells how much was held.
        """
        releases = self.releases
        if not releases:
            return 0
        held = self.authorised or max(release.amount_minor for release in releases)
        return max(held - self.captured, 0)

    @property
    def held(self) -> int:
        """What is still on hold at the shopper's bank."""
        return 0 if self.releases else max(self.authorised - self.captured, 0)

    @property
    def kept(self) -> int:
        """What we were paid of it and have not given back."""
        return max(self.captured - self.refunded, 0)


def holds_of(facts: Collection[Fact]) -> list[Hold]:
    """Sort a payment's facts into its holds, the first that was authorised first.

    A statement that names no payment of the PSP's is about the first hold; a release that names
    none (a void by our reference) is about all that were authorised.
    """
    standing = _standing(facts)
    authorised = _authorised_references(standing)
    named = {_named_by(fact) for fact in standing} - {None, *authorised}
    references = [*authorised, *sorted(map(str, named))] or [""]
    about: dict[str, list[Fact]] = {reference: [] for reference in references}
    for fact in standing:
        is_of_all = fact.kind in _RELEASES and authorised
        unnamed = authorised if is_of_all else references[:1]
        name = _named_by(fact)
        for reference in [name] if name else unnamed:
            about[reference].append(fact)
    return [Hold(reference, tuple(of_one)) for reference, of_one in about.items()]


def _authorised_references(facts: Collection[Fact]) -> list[str]:
    authorised = (fact for fact in facts if fact.kind is _K.AUTHORISED)
    in_order = sorted(authorised, key=lambda fact: (fact.occurred_at, fact.reference))
    return list(dict.fromkeys(fact.reference for fact in in_order))


def _named_by(fact: Fact) -> str | None:
    return fact.payment_reference or (fact.reference if fact.kind in _OWN else None)


def _standing(facts: Collection[Fact]) -> list[Fact]:
    """Return what makes up the holds, without what another fact undoes or says more exactly."""
    told = {(fact.kind, fact.reference): fact for fact in facts}
    return [
        fact
        for fact in facts
        if fact.kind in _MAKE_A_HOLD
        and not _is_undone(fact, told)
        and not _is_said_more_exactly(fact, told)
    ]


def _is_undone(fact: Fact, told: Mapping[tuple[FactKind, str], Fact]) -> bool:
    """Let the later date decide; on a tie the kind, unless the PSP says that it did it again."""
    return any(
        (told[kind, fact.reference].occurred_at, wins_tie and not fact.is_repeat)
        > (fact.occurred_at, False)
        for kind, wins_tie in _UNDONE_BY.get(fact.kind, {}).items()
        if (kind, fact.reference) in told
    )


def _is_said_more_exactly(fact: Fact, told: Mapping[tuple[FactKind, str], Fact]) -> bool:
    return fact.kind is _K.UNSPECIFIED_REVERSAL and any(
        (kind, fact.reference) in told for kind in _SPECIFIC
    )
