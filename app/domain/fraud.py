"""The built-in fraud rules: whom they refuse, and why. What they count and look up is handed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.mail_addresses import is_domain, is_mail_address
from app.domain.money import Money


class Rule(StrEnum):
    """A built-in rule."""

    AMOUNT_CAP = "amount_cap"
    DENY_LIST = "deny_list"
    VELOCITY = "velocity"


class DenialKind(StrEnum):
    """What an entry of the deny list is about."""

    EMAIL = "email"  #: one mail address
    EMAIL_DOMAIN = "email_domain"  #: every address at a domain, or at one below it


@dataclass(frozen=True, slots=True)
class Denial:
    """An entry of a deny list. Case does not matter: the value is kept in small letters."""

    kind: DenialKind
    value: str

    @classmethod
    def of(cls, kind: DenialKind, text: str) -> "Denial":
        """Return the entry that a person wrote.

        Raises:
            ValueError: It is not of this kind; the message says what is.
        """
        value = text.strip().lower()
        if kind is DenialKind.EMAIL and not is_mail_address(value):
            raise ValueError("is not a mail address")
        if kind is DenialKind.EMAIL_DOMAIN and not is_domain(value):
            raise ValueError("is not a domain such as example.com; write others as xn--...")
        return cls(kind, value)

    @property
    def masked(self) -> str:
        """Show the entry where it can never be deleted: of an address only what is no name."""
        if self.kind is DenialKind.EMAIL:
            mailbox, _, domain = self.value.rpartition("@")
            return f"{mailbox[:1]}***@{domain}"
        return self.value


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule says no.

    Attributes:
        reason: A sentence without personal data.
    """

    rule: Rule
    reason: str


def over_cap(amount: Money, caps: Mapping[str, int]) -> Refusal | None:
    """Refuse more than a currency's cap, minor units; a currency without one is not capped."""
    cap = caps.get(amount.currency)
    if cap is None or amount.amount_minor <= cap:
        return None
    most = Money(cap, amount.currency)
    return Refusal(Rule.AMOUNT_CAP, f"{amount} is more than {most}, the most that is taken")


def denials_of(email: str) -> list[Denial]:
    """Return every entry that would deny this address: itself, its domain, and those above it."""
    address = email.lower()
    labels = address.rpartition("@")[2].split(".")
    domains = (".".join(labels[place:]) for place in range(len(labels)))
    return [
        Denial(DenialKind.EMAIL, address),
        *(Denial(DenialKind.EMAIL_DOMAIN, domain) for domain in domains),
    ]


def denied(found: DenialKind | None) -> Refusal | None:
    """Refuse whom an entry of the deny list names."""
    match found:
        case None:
            return None
        case DenialKind.EMAIL:
            return Refusal(Rule.DENY_LIST, "the shopper's mail address is on the deny list")
        case DenialKind.EMAIL_DOMAIN:
            return Refusal(Rule.DENY_LIST, "the shopper's mail domain is on the deny list")


def too_many(count: int, *, most: int, window_seconds: int) -> Refusal | None:
    """Refuse a payment that is one too many of its shopper's.

    Args:
        count: The shopper's payments within the window, this one included.
        most: So many are taken.
        window_seconds: The window; it ends with this payment.
    """
    if count <= most:
        return None
    reason = f"more than {most} payments of one shopper within {window_seconds} seconds"
    return Refusal(Rule.VELOCITY, reason)
