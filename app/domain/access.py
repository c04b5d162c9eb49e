"""Who may call the API, as values."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

#: The services that may live elsewhere.
SERVICES = ("psp", "booking", "fraud", "mail")


class Role(StrEnum):
    """What an API key is for."""

    MERCHANT = "merchant"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    PARTICIPANT = "participant"  #: a service elsewhere: takes its commands, and nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated API key.

    Attributes:
        key_prefix: What the key is called where keys are listed; no secret.
        merchant_account: The account whose payments it may see.
        service_id: The service whose commands a participant takes; None for all others.
    """

    key_id: UUID
    key_prefix: str
    merchant_account: str
    role: Role
    service_id: str | None = None
