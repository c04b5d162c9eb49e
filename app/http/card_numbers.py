"""No card numbers: anything that looks like one is refused before it is read any further."""

import re
import unicodedata
from collections.abc import Iterator

from app.errors import CardNumberRefused

#: Digits as people and programs write them: bare, or in groups.
_DIGITS = re.compile(r"[0-9]+(?:[^0-9A-Za-z]{1,3}[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
_LENGTHS = range(13, 20)

#: Merchants make references of these, and some have enough digits in a row.
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def refuse_card_numbers(body: object) -> None:
    """Look for card numbers in every key and value of a JSON body, at any depth.

    Raises:
        CardNumberRefused: Found one; the error names the field, never the number.
    """
    for path, text in _texts(body, ""):
        if holds_card_number(text):
            raise CardNumberRefused(path or "the body")


def holds_card_number(text: str) -> bool:
    """Tell whether something in the text looks like a card number, however it is grouped."""
    plain = unicodedata.normalize("NFKC", text)
    if _UUID.fullmatch(plain):
        return False
    return any(_is_in_groups(digits) for digits in _DIGITS.findall(plain))


def _is_in_groups(text: str) -> bool:
    """Try every run of whole groups: an expiry date beside a number does not hide it."""
    groups: list[str] = _GROUP.findall(text)
    for start in range(len(groups)):
        number = ""
        for group in groups[start:]:
            number += group
            if len(number) >= _LENGTHS.stop:
                break
            if len(number) in _LENGTHS and _is_luhn([int(digit) for digit in number]):
                return True
    return False


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for name, inner in value.items():
                yield path, str(name)
                yield from _texts(inner, f"{path}.{name}" if path else str(name))
        case list():
            for position, inner in enumerate(value):
                yield from _texts(inner, f"{path}[{position}]")
        case bool() | None:
            return
        case _:
            yield path, str(value)


def _is_luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right counts twice."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
