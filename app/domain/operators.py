"""What people do to payments by hand, and why: nothing is done without a name and a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.domain.card_numbers import find_card_numbers
from app.errors import InvalidFields

NAME_CHARACTERS_MAX = 80
REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Grounds:
    """Who acts, and why. Both are kept for ever, and shown as they are.

    Raises:
        InvalidFields: One is blank, too long, or holds a control character or a card number.
    """

    operator: str
    reason: str

    def __post_init__(self) -> None:
        """Refuse what explains nothing."""
        problems = {
            name: problem
            for name, value, characters_max in (
                ("by", self.operator, NAME_CHARACTERS_MAX),
                ("reason", self.reason, REASON_CHARACTERS_MAX),
            )
            if (problem := _problem(value, characters_max))
        }
        if problems:
            raise InvalidFields(problems)

    @property
    def cause(self) -> str:
        """The cause of the events that follow from it (``PaymentEvent``)."""
        return f"operator:{self.operator}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAction:
    """One line of the audit log.

    Attributes:
        action: ``resume``, ``skip``, ``force``, ``abandon``, ``assign``, ``replay``.
        subject: A payment's id, a webhook's GUID, or a merchant account's deny list.
        before: JSON values of what was about to change.
        after: The same values, changed.
        at: Aware UTC.
    """

    grounds: Grounds
    action: str
    subject: str
    before: Mapping[str, object]
    after: Mapping[str, object]
    at: datetime


def check_name(field: str, value: str) -> None:
    """Refuse what names nobody.

    Raises:
        InvalidFields: It is blank, too long, or holds a control character or a card number.
    """
    if problem := _problem(value, NAME_CHARACTERS_MAX):
        raise InvalidFields({field: problem})


def _problem(value: str, characters_max: int) -> str | None:
    if not value.strip():
        return "must not be blank"
    if len(value) > characters_max:
        return f"is longer than {characters_max} characters"
    if not value.isprintable():
        return "holds a control character"
    return "holds what looks like a card number" if any(find_card_numbers(value)) else None
