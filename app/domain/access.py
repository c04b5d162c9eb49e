"""Who may call the API, as values."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Role(StrEnum):
    """What an API key is for."""

    MERCHANT = "merchant"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated API key.

    Attributes:
        merchant_account: The account whose payments it may see.
    """

    key_id: UUID
    merchant_account: str
    role: Role
