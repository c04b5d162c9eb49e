"""Personal data in webhooks: what is masked wherever a webhook is shown.

The PSP adds what its customer area is told to add (psp-webhooks.md section 1), so that data of
shoppers are known by their names, wherever in the body they stand.
"""

import re
from collections.abc import Mapping

MASKED = "[masked]"

_PERSONAL = re.compile(
    r"""
    e-?mail | phone | shopperip | ip-?address | socialsecurity | national-?id | tax-?id
    | \biban | iban$ | iban\b | bankaccountnumber | accountnumber | ownername | holdername
    | (shopper|first|last|full)name | dateofbirth | (billing|delivery|residential)address
    """,
    re.IGNORECASE | re.VERBOSE,
)


def masked(value: object) -> object:
    """Return a JSON value with every personal value in it masked; keys and shape stay."""
    if isinstance(value, Mapping):
        return {
            name: MASKED if _PERSONAL.search(name) and one else masked(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [masked(one) for one in value]
    return value
