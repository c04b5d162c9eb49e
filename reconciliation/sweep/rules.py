"""The rules, as one table: psp-reports.md section 3.3, and what this service makes of it.

The waits of a payment are the saga's own (``app.sagas.booking``): the sweep acts when they are over
and nobody has acted, which is when no worker runs, or five minutes after one died. What can't be
asked for (a refund's outcome, a report) has no worker at all: there the sweep is the first line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

#: S1. A webhook that is younger is simply on its way through the worker.
UNPROCESSED_AFTER = timedelta(minutes=2)

#: S2. The PSP has said nothing of a payment for so long, and confirmed no cancellation of it.
NEVER_HEARD_OF_AFTER = timedelta(days=2)

#: S4. No payment of ours has come for so long.
MISSING_AFTER = timedelta(hours=1)

#: S8. The PSP takes days over a refund; it is looked for every day, and given up in the end.
REFUND_OVERDUE_AFTER = timedelta(days=3)
REFUND_CHECKED_EVERY = timedelta(days=1)
REFUND_GIVEN_UP_AFTER = timedelta(days=10)

#: S9. What was not sent for so long is sent again, also by a patience that ran out while nobody was
#: there to use it; a confirmation that is a day late confuses.
UNSENT_AFTER = timedelta(minutes=30)
UNSENT_GIVEN_UP_AFTER = timedelta(days=1)

#: S10. How often a missing report is fetched, and when a person looks for it.
REPORT_FETCHED_EVERY = timedelta(hours=1)
REPORT_GIVEN_UP_AFTER = timedelta(days=2)

#: S8, S10. How far back refunds and reports are looked at: that bounds what a sweep reads.
LOOKS_BACK = timedelta(days=40)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, in words.

    Attributes:
        finds: What is stuck.
        first: When it is found at the earliest.
        repeats: How often it is found again.
        does: What the sweep does about it.
        gives_up: What becomes of it in the end.
    """

    finds: str
    first: str
    repeats: str
    does: str
    gives_up: str


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "S1": Rule(
            finds="a stored webhook that is not applied",
            first="2 min",
            repeats="5 min after the drain's next try (0.5 s doubling to 1 min, 8 tries)",
            does="apply exactly this one",
            gives_up="dead: told by every sweep until somebody replays it",
        ),
        "S2": Rule(
            finds="a fraud check or an authorisation that was sent and never answered, or not sent",
            first="when its next try is due (at most 1 min later)",
            repeats="5 min",
            does="ask again under the same key inside the decision window; after it cancel by"
            " reference",
            gives_up="MISSING_AT_PSP at 2 d without a word of the PSP; the undo goes on (S7)",
        ),
        "S3": Rule(
            finds="an authorisation that was answered, and no webhook came",
            first="at the end of the decision window",
            repeats="once",
            does="undo it; nothing if the answer was a refusal",
            gives_up="S7",
        ),
        "S4": Rule(
            finds="a webhook whose payment is not here",
            first="after the grace",
            repeats="5 min after the drain's next look",
            does="look again: join it, or keep its payment as external",
            gives_up="MISSING_IN_LEDGER at 1 h, if it does not say enough to keep a payment",
        ),
        "S5": Rule(
            finds="an authorised payment without a booking",
            first="when its next try is due (at most 2 s later)",
            repeats="5 min",
            does="ask again; after 10 min, or if the booking said no, undo under a key of its own",
            gives_up="S7",
        ),
        "S6": Rule(
            finds="a capture that was asked for, and no CAPTURE webhook came",
            first="1 h",
            repeats="hourly to 26 h",
            does="ask again under the same key",
            gives_up="manual_review at 26 h, days before the authorisation expires",
        ),
        "S7": Rule(
            finds="an undo that failed or stayed unanswered; money left with a payment that rests"
            " declined or compensated",
            first="when its next try is due; 5 min after the last word on the payment",
            repeats="the undo's schedule (5 min, 1 h, then daily, five times)",
            does="ask again: a cancellation, a refund, or a reversal if either may be right;"
            " STATUS_MISMATCH for what is left",
            gives_up="manual_review: the person is paged by every sweep until the review, or the"
            " case, is closed",
        ),
        "S8": Rule(
            finds="a refund that the PSP took, and no REFUND webhook came; one that came back",
            first="3 d; one that came back at once",
            repeats="daily",
            does="note it on the timeline: the report must say; STATUS_MISMATCH if it came back",
            gives_up="MISSING_AT_PSP at 10 d",
        ),
        "S9": Rule(
            finds="a confirmation that was not sent",
            first="30 min",
            repeats="every sweep",
            does="send it again, under the same message id",
            gives_up="at 1 d: fin, with the failed mail on the timeline",
        ),
        "S10": Rule(
            finds="a settlement batch that was skipped, or a daily report missing at 12:00 in"
            " Amsterdam",
            first="at once",
            repeats="hourly",
            does="fetch it",
            gives_up="FILE_GAP at 2 d",
        ),
    }
)
