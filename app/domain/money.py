"""Amounts: integers in minor units, with a currency."""

import re
from dataclasses import dataclass

MINOR_UNITS_DEFAULT = 2

#: Currencies whose minor unit is not a hundredth. The PSP deviates from ISO 4217 for CLP and ISK (2
#: digits) and for CVE and IDR (0 digits): psp-webhooks.md section 1.
MINOR_UNITS = {
    **dict.fromkeys(
        ("CVE", "DJF", "GNF", "IDR", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0
    ),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}

#: The largest amount that is accepted, in minor units. Far above any payment, far below the
#: database's 64-bit integers, so that no sum of a payment's facts can overflow.
AMOUNT_MINOR_MAX = 10**15

_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units: ``Money(12500, "EUR")`` is 125.00 euros."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        """Refuse what is no amount of money.

        Raises:
            ValueError: Not an integer, negative, too large, or not a three-letter currency.
        """
        if type(self.amount_minor) is not int:
            raise ValueError("an amount is an integer in minor units")
        if not 0 <= self.amount_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"an amount lies between 0 and {AMOUNT_MINOR_MAX} minor units")
        if not is_currency(self.currency):
            raise ValueError("a currency is three capital letters")

    def __str__(self) -> str:
        """Write the amount for people: ``125.00 EUR``."""
        digits = MINOR_UNITS.get(self.currency, MINOR_UNITS_DEFAULT)
        if digits == 0:
            return f"{self.amount_minor} {self.currency}"
        whole, rest = divmod(self.amount_minor, 10**digits)
        return f"{whole}.{rest:0{digits}d} {self.currency}"


def is_currency(text: str) -> bool:
    """Tell whether ``text`` has the form of an ISO 4217 code."""
    return _CURRENCY.fullmatch(text) is not None
