"""Stories of payments as the PSP tells them, and a bookkeeper who hears them in the true order.

The bookkeeper is the oracle: written from the prose of psp-webhooks.md section 7, one plain step an
event, so that it shares nothing with the code that must come to the same sums from any order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeVar

from tests.support.builders import NOW, PSP_REFERENCE, an_item

T = TypeVar("T")
Item = dict[str, object]

SECOND_REFERENCE = "8816178914079799"
STEPS_MAX = 12
#: Captures lead to most of what can happen next.
LIKELY = 3

#: Told on the way; none of them moves money.
NOISE = (
    "NOTIFICATION_OF_CHARGEBACK",
    "REQUEST_FOR_INFORMATION",
    "NOTIFICATION_OF_FRAUD",
    "MANUAL_REVIEW_ACCEPT",
    "POSTPONED_REFUND",
    "VOID_PENDING_REFUND",
    "PAIDOUT_REVERSED",
)


class Choices(Protocol):
    """Who decides how a story goes on: ``random.Random``, as a rule."""

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        ...

    def randint(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        ...


@dataclass
class Books:
    """What a bookkeeper writes down who hears everything once and in order."""

    authorised: dict[str, int] = field(default_factory=dict)
    latest_total: int = 0
    released: dict[str, str] = field(default_factory=dict)
    captured: dict[str, dict[str, int]] = field(default_factory=dict)
    failed_captures: dict[str, tuple[str, int]] = field(default_factory=dict)
    refunded: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    reversed_wholly: set[str] = field(default_factory=set)
    was_refused: bool = False

    def captured_of(self, payment: str) -> int:
        return sum(self.captured.get(payment, {}).values())

    def open_of(self, payment: str) -> int:
        return max(self.authorised[payment] - self.captured_of(payment), 0)

    @property
    def sums(self) -> dict[str, object]:
        captured = sum(map(self.captured_of, self.authorised))
        held = sum(self.open_of(one) for one in self.authorised if one not in self.released)
        return {
            "authorised": self.latest_total,
            "captured": captured,
            "refunded": sum(self.refunded.values()),
            "charged_back": sum(self.lost.values()),
            "cancelled": sum(map(self.open_of, self.released)),
            "held": held,
            "status": self._status(captured, held),
        }

    def _status(self, captured: int, held: int) -> str:  # one line a status, the gravest first
        refunded = sum(self.refunded.values())
        if sum(self.lost.values()):
            return "charged_back"
        if refunded:
            return "refunded" if refunded >= captured else "partially_refunded"
        if captured:
            return "captured" if captured >= self.latest_total else "partially_captured"
        if held:
            return "authorised"
        if self.released:
            return "expired" if "expired" in self.released.values() else "cancelled"
        return "refused" if self.was_refused else "none"


@dataclass
class Story:
    """One payment's story so far.

    Attributes:
        choices: Decides how it goes on.
        has_second: Whether the PSP may authorise the payment once more, under another reference.
        has_recaptures: Whether captures that failed may be done again, under their references.
        books: What is true now.
        items: What the PSP told, in the true order, with redeliveries.
    """

    choices: Choices
    has_second: bool = True
    has_recaptures: bool = True
    books: Books = field(default_factory=Books)
    items: list[Item] = field(default_factory=list)
    _minute: int = 0
    _numbers: int = 0
    _once: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def told(self) -> "Story":
        """Tell the story to its end."""
        self._begin()
        for _step in range(self.choices.randint(0, STEPS_MAX)):
            options = list(self._ways_on())
            if options:
                self.choices.choice(options)()
        self._tell_some_again()
        return self

    def _begin(self) -> None:
        """A refusal first, perhaps; under the very reference that is authorised after it."""
        if self.choices.choice([False, True]):
            self.books.was_refused = True
            self._tell_once("AUTHORISATION", PSP_REFERENCE, 12500, success=False)
        if self.choices.randint(0, 9):
            self._authorise(PSP_REFERENCE)

    def _ways_on(self) -> Iterator[Callable[[], None]]:
        """Yield what may happen next, as it is now."""
        books = self.books
        yield self._make_noise
        if self.has_second and PSP_REFERENCE in books.authorised and len(books.authorised) == 1:
            yield lambda: self._authorise(SECOND_REFERENCE)
        over = books.released.keys() | books.reversed_wholly
        for payment in [one for one in books.authorised if one not in over]:
            yield from self._ways_on_of_a_hold(payment)
        for payment in books.authorised:
            if books.captured_of(payment) > 0 and payment not in books.reversed_wholly:
                yield lambda payment=payment: self._refund(payment)  # type: ignore[misc]
            if books.captured_of(payment) > 0:
                yield lambda payment=payment: self._dispute(payment)  # type: ignore[misc]
        for refund in [one for one, amount in books.refunded.items() if amount]:
            yield lambda refund=refund: self._undo_refund(refund)  # type: ignore[misc]
        for capture, (payment, _amount) in books.failed_captures.items():
            if self.has_recaptures and payment not in books.reversed_wholly:
                yield lambda capture=capture: self._recapture(capture)  # type: ignore[misc]

    def _ways_on_of_a_hold(self, payment: str) -> Iterator[Callable[[], None]]:
        books = self.books
        captures = books.captured.get(payment, {})
        if books.open_of(payment) > 0:
            yield from [lambda: self._capture(payment)] * LIKELY
            yield lambda: self._capture_in_vain(payment)
            yield lambda: self._release(payment, "CANCELLATION")
            yield lambda: self._release(payment, "EXPIRE")
            yield lambda: self._cancel_in_vain(payment)
        if not captures:
            yield lambda: self._adjust(payment)
        if captures and not books.refunded:
            yield lambda: self._fail_capture(payment)
        is_whole_or_none = not captures or books.open_of(payment) == 0
        if is_whole_or_none and not any(books.refunded.values()):
            yield lambda: self._reverse(payment)

    def _authorise(self, payment: str) -> None:
        amount = self._amount(12500)
        self.books.authorised[payment] = self.books.latest_total = amount
        self._tell_once("AUTHORISATION", payment, amount)

    def _adjust(self, payment: str) -> None:
        amount = self._amount(20000)
        self._modify_once("AUTHORISATION_ADJUSTMENT", payment, self._new("ADJ"), 1, success=False)
        self.books.authorised[payment] = self.books.latest_total = amount
        self._modify_once("AUTHORISATION_ADJUSTMENT", payment, self._new("ADJ"), amount)

    def _capture(self, payment: str) -> None:
        capture, amount = self._new("CAP"), self._part_of(self.books.open_of(payment))
        self.books.captured.setdefault(payment, {})[capture] = amount
        self._modify("CAPTURE", payment, capture, amount)

    def _capture_in_vain(self, payment: str) -> None:
        self._modify("CAPTURE", payment, self._new("CAP"), 700, success=False)

    def _fail_capture(self, payment: str) -> None:
        capture = self.choices.choice(sorted(self.books.captured[payment]))
        amount = self.books.captured[payment].pop(capture)
        self.books.failed_captures[capture] = (payment, amount)
        self._modify("CAPTURE_FAILED", payment, capture, amount)

    def _recapture(self, capture: str) -> None:
        payment, amount = self.books.failed_captures.pop(capture)
        self.books.captured[payment][capture] = amount
        reason = self.choices.choice(["Transaction Recaptured", "transaction auto-recaptured", ""])
        self._modify("CAPTURE", payment, capture, amount, reason=reason)

    def _release(self, payment: str, code: str) -> None:
        self.books.released[payment] = "expired" if code == "EXPIRE" else "cancelled"
        if code == "EXPIRE":
            self._tell_once(code, payment, self.books.authorised[payment])
        else:
            amount = self.choices.choice([0, self.books.authorised[payment]])
            self._modify_once(code, payment, self._new("CAN"), amount)

    def _cancel_in_vain(self, payment: str) -> None:
        self._modify_once("CANCELLATION", payment, self._new("CAN"), 0, success=False)

    def _reverse(self, payment: str) -> None:
        """Cancel or refund, whichever it takes; the item may not say which it was."""
        reversal, captured = self._new("REV"), self.books.captured_of(payment)
        self.books.reversed_wholly.add(payment)
        if captured:
            self.books.refunded[reversal] = captured
        else:
            self.books.released[payment] = "cancelled"
        action = self.choices.choice(["", "refund" if captured else "cancel"])
        additional = {"modification.action": action} if action else {}
        code = self.choices.choice(["CANCEL_OR_REFUND", "REVERSAL"])
        amount = captured or self.books.authorised[payment]
        self._modify(code, payment, reversal, amount, additional=additional)

    def _refund(self, payment: str) -> None:
        refund, amount = self._new("REF"), self._amount(self.books.captured_of(payment))
        self.books.refunded[refund] = amount
        self._modify("REFUND", payment, self._new("REF"), 300, success=False)
        self._modify("REFUND", payment, refund, amount)

    def _undo_refund(self, refund: str) -> None:
        amount, self.books.refunded[refund] = self.books.refunded[refund], 0
        code = self.choices.choice(["REFUND_FAILED", "REFUNDED_REVERSED"])
        self._modify(code, PSP_REFERENCE, refund, amount)

    def _dispute(self, payment: str) -> None:
        """A dispute to any of its ends; its parts share its reference."""
        dispute, amount = self._new("DIS"), self._amount(self.books.captured_of(payment))
        parts = self.choices.choice([1, 2, 3])
        codes = ("CHARGEBACK", "CHARGEBACK_REVERSED", "SECOND_CHARGEBACK")[:parts]
        self.books.lost[dispute] = 0 if parts == 2 else amount
        for code in codes:
            self._modify(code, payment, dispute, amount)

    def _make_noise(self) -> None:
        code = self.choices.choice(NOISE)
        self._modify(code, PSP_REFERENCE, self._new("NOT"), 12500)

    def _tell_some_again(self) -> None:
        """Redeliver what happened once, dated as late as the PSP likes."""
        for code, values in self._once:
            if self.choices.choice([False, False, True]):
                self._tell(code, values)

    def _tell_once(
        self, code: str, reference: str, amount_minor: int, *, success: bool = True
    ) -> None:
        values = {"psp_reference": reference, "amount_minor": amount_minor, "success": success}
        self._once.append((code, values))
        self._tell(code, values)

    def _modify_once(
        self, code: str, payment: str, reference: str, amount_minor: int, *, success: bool = True
    ) -> None:
        self._once.append(
            (code, self._modify(code, payment, reference, amount_minor, success=success))
        )

    def _modify(
        self,
        code: str,
        payment: str,
        reference: str,
        amount_minor: int,
        *,
        success: bool = True,
        **unsigned: object,
    ) -> dict[str, object]:
        values = {
            "psp_reference": reference,
            "original_reference": payment,
            "amount_minor": amount_minor,
            "success": success,
            **unsigned,
        }
        self._tell(code, values)
        return values

    def _tell(self, code: str, values: dict[str, object]) -> None:
        self._minute += 1
        date = NOW + timedelta(minutes=self._minute)
        self.items.append(an_item(code, event_date=date.isoformat(), **values))  # type: ignore[arg-type]  # one keyword each

    def _new(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers}"

    def _amount(self, at_most: int) -> int:
        return self.choices.choice([at_most, at_most, self.choices.randint(1, at_most)])

    def _part_of(self, whole: int) -> int:
        return self.choices.choice([whole, self.choices.randint(1, whole)])
