"""No card numbers: anything that looks like one is refused before it is read any further."""

import re
import unicodedata
from collections.abc import Collection, Iterator

from app.domain.card_numbers import find_card_numbers
from app.errors import CardNumberRefused

#: Merchants make references of these, and some have enough digits in a row.
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def refuse_card_numbers(body: object, *, but: Collection[str] = ()) -> None:
    """Look for card numbers in every key and value of a JSON body, at any depth.

    Args:
        body: Plain JSON.
        but: Paths whose values are passed over.

    Raises:
        CardNumberRefused: Found one; the error names the field, never the number.
    """
    for path, text in _texts(body, ""):
        if path not in but and holds_card_number(text):
            raise CardNumberRefused(path or "the body")


def holds_card_number(text: str) -> bool:
    """Tell whether something in the text looks like a card number, however it is grouped."""
    plain = unicodedata.normalize("NFKC", text)
    if _UUID.fullmatch(plain):
        return False
    return next(find_card_numbers(plain), None) is not None


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
