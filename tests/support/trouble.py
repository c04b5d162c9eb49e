"""Flows that ask for trouble: every word of the simulator, and where its payments may end."""

from dataclasses import dataclass
from itertools import combinations
from random import Random

from app.errors import (
    GatewayError,
    GatewayNotAsked,
    GatewayRejected,
    GatewayTimeout,
    GatewayUnavailable,
)

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


@dataclass(frozen=True, slots=True)
class Trouble:
    """How the call of an operation fails, and whether it has its effect all the same."""

    operation: str
    error: GatewayError
    acts: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """A flow to be, and how calls about it fail: for a model, which does without the simulator."""

    words: frozenset[str]
    is_automatic: bool
    troubles: tuple[Trouble, ...]


#: The other words are about calls and deliveries, which a model lets fail and come late itself.
MODEL_WORDS = (
    "DECLINED",
    "LOST WEBHOOK",
    "FALSE THEN TRUE",
    "CAPTURE FAILED",
    "CANCEL FAILED",
    "FAIL-",
    "fraud@",
    "bounce@",
)
#: Where money is asked for most of all.
OPERATIONS = ("check", "send", *("authorise", "confirm", "capture", "cancel") * 2)
FAILURES = (
    (GatewayTimeout("no answer"), True),
    (GatewayTimeout("never arrived"), False),
    (GatewayUnavailable("503"), False),
    (GatewayNotAsked("no more calls at once"), False),
    (GatewayRejected("422"), False),
)


def wishes(number: int, *, seed: int) -> list[Wish]:
    """Draw flows with words and troubles, the simplest ones first."""
    choices = Random(seed)
    drawn = []
    for _wish in range(number):
        words = frozenset(choices.choices(MODEL_WORDS, k=choices.choice((0, 0, 1, 1, 2))))
        troubles = (
            Trouble(operation, *choices.choice(FAILURES))
            for operation in choices.choices(OPERATIONS, k=choices.choice((0, 1, 1, 2)))
            for _call in range(choices.choice((1, 2, 5)))
        )
        wish = Wish(words, choices.random() < 0.5, tuple(troubles))
        if words not in CONTRADICTIONS:
            drawn.append(wish)
    return sorted(drawn, key=lambda wish: len(wish.words) + len(wish.troubles))
