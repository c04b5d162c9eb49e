"""Anything that looks like a card number is refused, wherever it hides, and never repeated."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import CardNumberRefused
from app.http.card_numbers import refuse_card_numbers
from tests.support.builders import a_start_body

VISA = "4111111111111111"
#: Published test numbers of 13 to 19 digits.
NUMBERS = [
    "4222222222222",
    "36006666333344",
    "370000000000002",
    VISA,
    "5555341244441115",
    "6304000000000000000",
]


def refused_path(body: object) -> str:
    with pytest.raises(CardNumberRefused) as refusal:
        refuse_card_numbers(body)
    return refusal.value.path


@pytest.mark.parametrize("number", NUMBERS)
def test_card_number_of_any_length_is_refused(number: str) -> None:
    assert refused_path({"reference": number}) == "reference"


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        f"card {VISA}, thanks",
        f"x{VISA}x",
        f"{VISA}=30031010000000000",
        f"first 4111111111111112 then {VISA}",
    ],
)
def test_grouping_and_text_around_it_do_not_hide_it(text: str) -> None:
    assert refused_path({"holder": text}) == "holder"


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1111 737",
        "4111 1111 1111 1111 03/30",
        "4111-1111-1111-1111-12-30",
        f"{VISA} 0330",
        f"1 {VISA}",
    ],
)
def test_digits_beside_it_do_not_hide_it(text: str) -> None:
    assert refused_path({"holder": text}) == "holder"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (VISA, "the body"),
        ([VISA], "[0]"),
        (int(VISA), "the body"),
        ({VISA: "value"}, "the body"),
        ({"outer": {VISA: "value"}}, "outer"),
        ({"value": int(VISA)}, "value"),
        ({"amount": {"value": int(VISA)}}, "amount.value"),
        ({"items": [{"a": 1}, {"note": VISA}]}, "items[1].note"),
        ({"deep": [[[VISA]]]}, "deep[0][0][0]"),
    ],
)
def test_it_is_found_in_every_key_and_value(body: object, path: str) -> None:
    assert refused_path(body) == path


def test_refusal_names_the_field_and_never_the_number() -> None:
    with pytest.raises(CardNumberRefused) as refusal:
        refuse_card_numbers({"payment_method": {"holder_name": VISA}})

    assert str(refusal.value) == "payment_method.holder_name looks like a card number"


@pytest.mark.parametrize(
    "value",
    [
        "4111111111111112",
        "ORDER-1001",
        "0199a000-0000-7000-8000-000000000001",
        "2026-11-20T09:00:00.123456Z",
        "411111111111",
        "41111111111111111111",
        "4111 1111 ABCD 1111 1111",
        12500,
        10**15,
        True,
        None,
        "",
        [],
        {},
    ],
)
def test_what_does_not_look_like_one_passes(value: object) -> None:
    refuse_card_numbers({"field": value})


@pytest.mark.parametrize("digits", ["000000000000", "00000000000000000000"])
def test_twelve_and_twenty_digits_pass_even_with_a_check_digit(digits: str) -> None:
    refuse_card_numbers({"field": digits})


def test_ordinary_start_of_a_payment_passes() -> None:
    refuse_card_numbers(a_start_body())


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    payload=st.text("0123456789", min_size=12, max_size=18),
    check=st.integers(0, 9),
    separator=st.sampled_from(["", " ", "-"]),
)
def test_exactly_one_check_digit_makes_a_number_of_any_payload(
    payload: str, check: int, separator: str
) -> None:
    digits = [int(digit) for digit in payload]
    total = sum(
        sum(divmod(digit * (2 if position % 2 == 0 else 1), 10))
        for position, digit in enumerate(reversed(digits))
    )
    is_number = check == -total % 10

    if is_number:
        assert refused_path({"field": separator.join(f"{payload}{check}")}) == "field"
    else:
        refuse_card_numbers({"field": f"{payload}{check}"})
