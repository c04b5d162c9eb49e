"""What is kept of a refused body: evidence, without card numbers, whatever it is made of."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.card_numbers import find_card_numbers
from tests.support.builders import an_item, signed, unsigned_webhook
from webhooks.refusals import BODY_BYTES_MAX, WITHHELD, without_card_numbers

VISA = "4111111111111111"


def test_a_body_without_card_numbers_is_kept_as_it_came() -> None:
    body = unsigned_webhook(signed(an_item()))

    assert without_card_numbers(body) == body


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        (VISA, "************1111"),
        ("4111 1111 1111 1111 03/30", "**** **** **** 1111 03/30"),
        ("4222222222222", "*********2222"),
        ("6304000000000000000", "***************0000"),
    ],
)
def test_a_card_number_is_masked_but_its_last_four_digits(number: str, masked: str) -> None:
    body = unsigned_webhook(an_item(reason=f"card {number} refused"))

    assert without_card_numbers(body) == body.replace(number.encode(), masked.encode())


@pytest.mark.parametrize("name", ["pspReference", "originalReference", "merchantReference"])
def test_a_reference_is_kept_whatever_it_looks_like(name: str) -> None:
    body = unsigned_webhook({**an_item(), name: VISA})

    assert without_card_numbers(body) == body


@pytest.mark.parametrize("before", [b"\xff\xfe", b"\x00", "ü".encode(), b'{"'])
def test_a_number_is_masked_in_what_is_no_json_and_no_utf8(before: bytes) -> None:
    assert without_card_numbers(before + VISA.encode()) == before + b"************1111"


@pytest.mark.parametrize(
    "hidden",
    [
        "\\u0034" + VISA[1:],
        "".join(f"\\u{ord(digit):04x}" for digit in VISA),
        "".join(chr(ord(digit) + 0xFEE0) for digit in VISA),
    ],
)
def test_a_body_that_hides_a_card_number_is_withheld(hidden: str) -> None:
    body = f'{{"reason": "{hidden}"}}'.encode()

    assert without_card_numbers(body) == WITHHELD


@pytest.mark.parametrize("digits_before_the_cut", range(17))
def test_a_number_across_the_cut_is_masked_too(digits_before_the_cut: int) -> None:
    padding = b"x" * (BODY_BYTES_MAX - digits_before_the_cut)

    kept = without_card_numbers(padding + VISA.encode() + b"x" * 1000)

    assert len(kept) == BODY_BYTES_MAX
    assert kept == (padding + b"************1111" + b"x" * 1000)[:BODY_BYTES_MAX]


@given(
    st.binary(max_size=200) | st.text(alphabet="0123456789 -\\u{}:,", max_size=80).map(str.encode)
)
def test_nothing_that_is_kept_holds_a_card_number(body: bytes) -> None:
    kept = without_card_numbers(body)

    assert not list(find_card_numbers(kept.decode("latin-1")))
    assert len(kept) == len(body) or kept == WITHHELD


def test_a_masked_body_is_still_json() -> None:
    body = unsigned_webhook(an_item(reason=VISA))

    assert json.loads(without_card_numbers(body))
