"""What people do to payments by hand, and why: nothing is done without a name and a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.errors import InvalidFields

NAME_CHARACTERS_MAX = 80
REASON_CHARACTERS_MAX = 500


class Action(StrEnum):
    """What an operator does."""

    RESUME = "resume"  #: let what failed be asked again
    SKIP = "skip"  #: count what failed as done, and go on
    FORCE = "force"  #: end it here, as it is
    ABANDON = "abandon"  #: undo everything
    ASSIGN = "assign"  #: give a review to somebody
    REPLAY = "replay"  #: apply a stored webhook again


@dataclass(frozen=True, slots=True)
class Grounds:
    """Who acts, and why. Both are kept for ever, and shown as they are.

    Raises:
        InvalidFields: One is blank, too long, or holds a control character.
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
        subject: A payment's id, or a webhook's GUID.
        before: JSON values of what was about to change.
        after: The same values, changed.
        at: Aware UTC.
    """

    grounds: Grounds
    action: Action
    subject: str
    before: Mapping[str, object]
    after: Mapping[str, object]
    at: datetime


def _problem(value: str, characters_max: int) -> str | None:
    if not value.strip():
        return "must not be blank"
    if len(value) > characters_max:
        return f"is longer than {characters_max} characters"
    return None if value.isprintable() else "holds a control character"
