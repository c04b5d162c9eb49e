"""What looks like a card number: 13 to 19 digits that pass the check of ISO/IEC 7812-1."""

import re
from collections.abc import Iterator

#: Digits as people and programs write them: bare, or in groups.
_DIGITS = re.compile(r"[0-9]+(?:[^0-9A-Za-z]{1,3}[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
_LENGTHS = range(13, 20)

#: Twice a digit, its own digits added up.
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

#: What a receipt may show of a card number.
_SHOWN_DIGITS = 4
_MASK = "*"


def find_card_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Yield where card numbers start and end; they may overlap.

    Every run of whole groups is tried: an expiry date beside a number does not hide it.
    """
    for run in _DIGITS.finditer(text):
        starts: dict[int, int] = {}  # by how many of the run's digits come before
        ends: dict[int, int] = {}
        digits = ""
        for group in _GROUP.finditer(text, *run.span()):
            starts[len(digits)] = group.start()
            digits += group.group()
            ends[len(digits)] = group.end()
        sums = _luhn_sums(digits)
        for first, start in starts.items():
            for last in range(first + _LENGTHS.start, first + _LENGTHS.stop):
                if last in ends and (sums[last % 2][last] - sums[last % 2][first]) % 10 == 0:
                    yield start, ends[last]


def mask_card_numbers(text: str) -> str:
    """Put an asterisk for each digit of a card number but the last four; the length stays."""
    masked = list(text)
    for start, end in find_card_numbers(text):
        places = [place for place in range(start, end) if "0" <= text[place] <= "9"]
        for place in places[:-_SHOWN_DIGITS]:
            masked[place] = _MASK
    return "".join(masked)


def _luhn_sums(digits: str) -> tuple[list[int], list[int]]:
    """Sum the digits up to each place, every second one doubled (ISO/IEC 7812-1, annex B).

    From the right the first digit counts once. So the first sums are for numbers that end after an
    even count of digits, the second for the others; strangers choose how many we must try, and a
    difference of two sums is as quick as it gets.
    """
    sums: tuple[list[int], list[int]] = ([0], [0])
    for place, digit in enumerate(map(int, digits), start=1):
        for parity, totals in enumerate(sums):
            totals.append(totals[-1] + (digit if place % 2 == parity else _DOUBLED[digit]))
    return sums
