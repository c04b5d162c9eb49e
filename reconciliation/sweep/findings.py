"""What a sweep looks for, and what it found, as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.domain.money import Money
from app.queries.ages import age_seconds
from app.queries.payments import instant

#: What somebody worked on this recently is not stuck.
QUIET = timedelta(minutes=5)


class Action(StrEnum):
    """What the sweep does about a finding."""

    PROCESS = "process"  #: apply a webhook that was stored and not applied
    ADVANCE = "advance"  #: the evidence is there; move on
    RETRY = "retry"  #: ask again, under the same key
    COMPENSATE = "compensate"  #: give up and undo
    DECLINE = "decline"  #: give up; nothing is held
    REST = "rest"  #: the last step is settled
    CHECK = "check"  #: nobody can be asked: look it up in the PSP's report
    FETCH = "fetch"  #: fetch a file from the PSP
    ESCALATE = "escalate"  #: hand it to a person
    PAGE = "page"  #: a person has it, and it is not settled: tell them again


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Where a sweep looks, and from when.

    Attributes:
        as_of: Aware UTC. A plan follows from the rows and from this time alone.
        merchant_account: Only this account's; every account's if None.
        limit: Findings of one kind at the most, oldest first; the next sweep finds the rest.
    """

    as_of: datetime
    merchant_account: str | None
    limit: int

    @property
    def quiet_since(self) -> datetime:
        """What was worked on later than this is left alone."""
        return self.as_of - QUIET

    @property
    def values(self) -> dict[str, object]:
        """The values that every query of the sweep may name."""
        return {
            "as_of": self.as_of,
            "quiet_since": self.quiet_since,
            "merchant_account": self.merchant_account,
            "limit": self.limit,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A break that a person must look at (psp-reports.md, "Break names").

    Attributes:
        subject: What exactly it is about. A subject has one case of a kind, ever.
        payment_id: None if there is no payment.
    """

    kind: str
    merchant_account: str
    subject: str
    payment_id: UUID | None
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is stuck, and what is to be done about it.

    Attributes:
        rule: Its name in ``RULES``.
        subject: The payment's id; of a webhook its GUID, of a report its file's name.
        state: The payment's flow state, the webhook's event code, or what kind of report it is.
        since: When it came to be so.
        why: What the rules came to, in one word or a few.
        next_look: When the sweep finds it again if this does not settle it; None if it is a
            person's, or settled.
        payment_id: None if it is about no payment of ours.
        version: The payment's; one that has moved on is left to whoever moved it.
        guid: Of the webhook, if it is about one.
        reference: The PSP's, of the refund that it is about.
        files: What is to be fetched.
        case: What is to be opened for a person.
    """

    rule: str
    merchant_account: str
    subject: str
    state: str
    since: datetime
    action: Action
    why: str
    next_look: datetime | None = None
    payment_id: UUID | None = None
    version: int | None = None
    guid: UUID | None = None
    reference: str | None = None
    files: tuple[str, ...] = ()
    case: Case | None = None

    def as_json(self, as_of: datetime) -> dict[str, object]:
        """Return the finding as plain JSON values, aged as of then."""
        return {
            "rule": self.rule,
            "merchant_account": self.merchant_account,
            "subject": self.subject,
            "payment_id": str(self.payment_id) if self.payment_id else None,
            "state": self.state,
            "since": instant(self.since),
            "age_seconds": age_seconds(self.since, as_of),
            "action": self.action.value,
            "why": self.why,
            "next_look": instant(self.next_look) if self.next_look else None,
            "reference": self.reference,
            "files": list(self.files),
            "opens": self.case.kind if self.case else None,
        }


def oldest_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings in the one order that does not depend on how they were found."""
    return sorted(findings, key=lambda one: (one.since, one.rule, one.subject, one.action))
