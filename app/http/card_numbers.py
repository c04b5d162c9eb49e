"""No card numbers: anything that looks like one is refused before it is read any further."""

import re
from collections.abc import Iterator

from app.errors import CardNumberRefused

#: 13 to 19 digits, as people and programs write them: bare, or in groups.
_CANDIDATE = re.compile(r"(?<!\d)\d(?:[ \-.]?\d){12,18}(?!\d)")


def refuse_card_numbers(body: object) -> None:
    """Look for card numbers in every key and value of a JSON body, at any depth.

    Raises:
        CardNumberRefused: Found one; the error names the field, never the number.
    """
    for path, text in _texts(body, ""):
        for candidate in _CANDIDATE.findall(text):
            digits = [int(character) for character in candidate if character.isdigit()]
            if _is_luhn(digits):
                raise CardNumberRefused(path or "the body")


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
