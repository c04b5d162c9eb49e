"""An amount is whole minor units with a currency, or it is refused."""

import pytest

from app.domain.money import AMOUNT_MINOR_MAX, Money, is_currency


@pytest.mark.parametrize("amount_minor", [0, 1, 12500, AMOUNT_MINOR_MAX])
def test_whole_minor_units_are_an_amount(amount_minor: int) -> None:
    assert Money(amount_minor, "EUR").amount_minor == amount_minor


@pytest.mark.parametrize("amount_minor", [True, False, 1.0, 12.5, "12500", None])
def test_anything_but_an_integer_is_refused(amount_minor: int) -> None:
    with pytest.raises(ValueError, match="integer in minor units"):
        Money(amount_minor, "EUR")


@pytest.mark.parametrize("amount_minor", [-1, -12500, AMOUNT_MINOR_MAX + 1])
def test_amount_outside_the_bounds_is_refused(amount_minor: int) -> None:
    with pytest.raises(ValueError, match="between 0 and"):
        Money(amount_minor, "EUR")


@pytest.mark.parametrize("currency", ["", "EU", "EURO", "eur", "E1R", "EUR ", "EUR\n", "\u0415UR"])
def test_anything_but_three_capital_letters_is_no_currency(currency: str) -> None:
    assert not is_currency(currency)
    with pytest.raises(ValueError, match="three capital letters"):
        Money(1, currency)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "written"),
    [
        (12500, "EUR", "125.00 EUR"),
        (5, "EUR", "0.05 EUR"),
        (0, "EUR", "0.00 EUR"),
        (12500, "JPY", "12500 JPY"),
        (12500, "KWD", "12.500 KWD"),
        (1, "KWD", "0.001 KWD"),
    ],
)
def test_amount_is_written_with_the_digits_of_its_currency(
    amount_minor: int, currency: str, written: str
) -> None:
    assert str(Money(amount_minor, currency)) == written


@pytest.mark.parametrize(
    ("currency", "written"),
    [("CLP", "10.00 CLP"), ("ISK", "10.00 ISK"), ("CVE", "1000 CVE"), ("IDR", "1000 IDR")],
)
def test_psp_digits_win_over_those_of_iso(currency: str, written: str) -> None:
    assert str(Money(1000, currency)) == written
