"""How signed values are written wrongly before they are signed, and altered afterwards.

The values are the eight of an item, in signing order (psp-webhooks.md section 2).
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import product

from webhooks.diagnosis.findings import FindingCode

FIELDS = (
    "pspReference",
    "originalReference",
    "merchantAccountCode",
    "merchantReference",
    "amount.value",
    "amount.currency",
    "eventCode",
    "success",
)

Values = tuple[str, ...]
Spelling = tuple[tuple[FindingCode, ...], Values]

#: What languages print where there is no value.
_NULLS = ("None", "null", "undefined")

#: Powers of ten between major and minor units (ISO 4217, less the one of ounces).
_EXPONENTS = (2, 1, 3)

#: An amount of more digits is none; it is not worth the arithmetic.
_AMOUNT_DIGITS_MAX = 20


def misspellings(values: Sequence[str]) -> Iterator[Spelling]:
    """Yield the values as faulty programs write them, with the faults; several may go together."""
    for null_faults, written in _spellings_of_null(tuple(values)):
        for boolean_faults, said in _spellings_of_success(written):
            for escape_faults, escaped in _escapings(said):
                if faults := (*null_faults, *boolean_faults, *escape_faults):
                    yield faults, escaped


def likely_originals(values: Sequence[str]) -> Iterator[tuple[str, str, Values]]:
    """Yield likely values before one field was altered: the field, what it was, all values.

    Each differs from ``values`` in that field alone.
    """
    for place, field in enumerate(FIELDS):
        for words, original in _originals(field, values[place]):
            if original != values[place]:
                yield field, words, (*values[:place], original, *values[place + 1 :])


def differing_fields(values: Sequence[str], others: Sequence[str]) -> list[str]:
    """Name the signed fields that differ."""
    triples = zip(FIELDS, values, others, strict=True)
    return [field for field, one, other in triples if one != other]


def _spellings_of_null(values: Values) -> Iterator[Spelling]:
    """The values themselves, then with one word for all that are empty, then for one of them."""
    yield (), values
    empty = [place for place, value in enumerate(values) if not value]
    chosen = [empty, *([place] for place in empty if len(empty) > 1)] if empty else []
    for word, places in product(_NULLS, chosen):
        changed = tuple(word if place in places else value for place, value in enumerate(values))
        yield (FindingCode.NULL_AS_TEXT,), changed


def _spellings_of_success(values: Values) -> Iterator[Spelling]:
    yield (), values
    yield (FindingCode.BOOLEAN_AS_PYTHON,), (*values[:-1], values[-1].capitalize())


def _escapings(values: Values) -> Iterator[Spelling]:
    yield (), values
    escaped = tuple(value.replace("\\", "\\\\").replace(":", "\\:") for value in values)
    if escaped != values:
        yield (FindingCode.ESCAPED_SIGNING_STRING,), escaped


def _originals(field: str, value: str) -> Iterator[tuple[str, str]]:
    match field:
        case "originalReference" | "merchantReference" | "amount.currency":
            yield "empty", ""
            yield "without the spaces around it", value.strip()
        case "amount.value":
            yield "empty", ""
            yield from _other_units(value)
        case "success":
            yield "the opposite", "false" if value == "true" else "true"
        case _:
            return


def _other_units(value: str) -> Iterator[tuple[str, str]]:
    if len(value) > _AMOUNT_DIGITS_MAX or not value.removeprefix("-").isdecimal():
        return
    amount = Decimal(value)
    for exponent in _EXPONENTS:
        major = amount.scaleb(-exponent)
        yield "in major units", f"{major:f}"
        yield "in major units", f"{major.normalize():f}"
        yield "in minor units", f"{amount.scaleb(exponent):f}"
