"""Flows that ask for trouble: every word of the simulator, and where its payments may end."""

from dataclasses import dataclass
from itertools import combinations
from random import Random

HOLDER_WORDS = (
    "DECLINED",
    "LOST WEBHOOK",
    "LATE WEBHOOK",
    "DUPLICATE WEBHOOK",
    "FALSE THEN TRUE",
    "PSP TIMEOUT",
    "PSP DOWN",
    "EARLY WEBHOOK",
    "CAPTURE FAILED",
    "CANCEL FAILED",
)
BOOKING_WORDS = ("FAIL-", "FLAKY-", "HANG-")
EMAIL_WORDS = ("fraud@", "bounce@")
WORDS = HOLDER_WORDS + BOOKING_WORDS + EMAIL_WORDS

#: These hold a thread of a worker for seconds, so that they are drawn rarely.
COSTLY = frozenset({"HANG-", "PSP TIMEOUT"})

#: Each of these takes the other's meaning away.
CONTRADICTIONS = frozenset(
    map(
        frozenset,
        [
            ("DECLINED", "FALSE THEN TRUE"),
            ("LOST WEBHOOK", "LATE WEBHOOK"),
            ("LOST WEBHOOK", "DUPLICATE WEBHOOK"),
            ("LOST WEBHOOK", "EARLY WEBHOOK"),
            ("LATE WEBHOOK", "EARLY WEBHOOK"),
            ("PSP TIMEOUT", "EARLY WEBHOOK"),
            *combinations(BOOKING_WORDS, 2),
            EMAIL_WORDS,
        ],
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A payment that is started, and the trouble that it asks for."""

    reference: str
    words: frozenset[str]
    amount_minor: int
    is_automatic: bool

    @property
    def booking(self) -> str:
        """The booking's reference, which no other flow has."""
        return next((it for it in BOOKING_WORDS if it in self.words), "BK-") + self.reference

    @property
    def email(self) -> str:
        """The shopper's address, which no other flow has."""
        mailbox = next((it for it in EMAIL_WORDS if it in self.words), "s.hopper@")
        return f"{mailbox}{self.reference}.example.com".lower()

    @property
    def body(self) -> dict[str, object]:
        """The request that starts it."""
        holder = " ".join(word for word in HOLDER_WORDS if word in self.words)
        return {
            "merchant_reference": self.reference,
            "amount": {"value": self.amount_minor, "currency": "EUR"},
            "capture": "automatic" if self.is_automatic else "manual",
            "payment_method": {"type": "scheme", "holder_name": holder or "S Hopper"},
            "shopper": {"email": self.email},
            "booking": {"reference": self.booking},
        }

    @property
    def is_never_told(self) -> bool:
        """Tell whether the authorisation's outcome never comes by webhook."""
        return "LOST WEBHOOK" in self.words and "FALSE THEN TRUE" not in self.words

    @property
    def is_authorised(self) -> bool:
        """Tell whether the PSP authorises it, sooner or later."""
        return not self.words & {"fraud@", "DECLINED"}

    @property
    def ends(self) -> frozenset[str]:
        """The rest states that its words allow; one, but for a race that both sides may win.

        - ``fraud@`` and ``DECLINED`` are a no, and nothing is left behind. A no that the PSP takes
          back later (``FALSE THEN TRUE``) is a yes.
        - An authorisation that nobody ever tells of is given up, and a booking that is refused, or
          not answered, undoes it: ``compensated``. If the PSP will not cancel the hold, money is
          held that nobody wants: a person's queue, and the only way there.
        - ``CAPTURE FAILED`` matters if something is captured. Either the success is seen first:
          the flow goes on and a person is told; or the failure is there too: the flow is undone.
        - Everything else delays, repeats or reorders, and changes no end. A mail that bounces
          undoes nothing.
        """
        undone = "manual_review" if "CANCEL FAILED" in self.words else "compensated"
        if not self.is_authorised:
            return frozenset({"declined"})
        if self.is_never_told or self.words & {"FAIL-", "HANG-"}:
            return frozenset({undone})
        if self.is_automatic and "CAPTURE FAILED" in self.words:
            return frozenset({"fin", undone})
        return frozenset({"fin"})


def draw(payments: int, *, seed: int) -> list[Flow]:
    """Draw a mix: every word and every pair of words that go together once, most flows ordinary."""
    choices = Random(seed)
    pairs = [frozenset(pair) for pair in combinations(WORDS, 2)]
    drawn = [
        *(frozenset({word}) for word in WORDS * 2),
        *(pair for pair in pairs if pair not in CONTRADICTIONS),
    ]
    weights = [0.05 if word in COSTLY else 1.0 for word in WORDS]
    while len(drawn) < payments:
        number = choices.choices((0, 1, 2), (70, 24, 6))[0]
        words = frozenset(choices.choices(WORDS, weights, k=number))
        if words not in CONTRADICTIONS:
            drawn.append(words)
    choices.shuffle(drawn)
    return [
        Flow(
            reference=f"FLOW-{number:05}",
            words=words,
            amount_minor=choices.randint(1, 100_000),
            is_automatic=choices.random() < 0.5,
        )
        for number, words in enumerate(drawn)
    ]
