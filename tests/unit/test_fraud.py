"""The built-in fraud rules at their boundaries."""

import pytest

from app.domain.fraud import (
    Denial,
    DenialKind,
    Rule,
    denials_of,
    denied,
    over_cap,
    too_many,
)
from app.domain.money import Money

CAPS = {"EUR": 500_000, "JPY": 80_000, "KWD": 0}


@pytest.mark.parametrize(
    ("amount", "is_refused"),
    [
        (Money(499_999, "EUR"), False),
        (Money(500_000, "EUR"), False),
        (Money(500_001, "EUR"), True),
        (Money(80_000, "JPY"), False),
        (Money(80_001, "JPY"), True),
        (Money(10**15, "USD"), False),
        (Money(1, "KWD"), True),
        (Money(0, "KWD"), False),
    ],
)
def test_an_amount_up_to_its_currencys_cap_is_taken(amount: Money, *, is_refused: bool) -> None:
    refusal = over_cap(amount, CAPS)

    assert (refusal is not None) == is_refused
    assert refusal is None or refusal.rule is Rule.AMOUNT_CAP


def test_without_caps_every_amount_is_taken() -> None:
    assert over_cap(Money(10**15, "EUR"), {}) is None


def test_a_cap_tells_both_amounts_as_people_write_them() -> None:
    refusal = over_cap(Money(80_001, "JPY"), CAPS)

    assert refusal is not None
    assert refusal.reason == "80001 JPY is more than 80000 JPY, the most that is taken"


@pytest.mark.parametrize(("count", "is_refused"), [(1, False), (3, False), (4, True), (99, True)])
def test_the_last_payment_that_may_be_is_taken(count: int, *, is_refused: bool) -> None:
    refusal = too_many(count, most=3, window_seconds=60)

    assert (refusal is not None) == is_refused
    assert refusal is None or refusal.rule is Rule.VELOCITY


@pytest.mark.parametrize("kind", DenialKind)
def test_a_denial_says_what_is_denied_and_not_who(kind: DenialKind) -> None:
    refusal = denied(kind)

    assert refusal is not None
    assert refusal.rule is Rule.DENY_LIST
    assert "@" not in refusal.reason


def test_who_is_on_no_list_is_not_denied() -> None:
    assert denied(None) is None


def test_an_address_is_denied_by_itself_by_its_domain_and_by_those_above_it() -> None:
    assert denials_of("Mallory@Mail.Example.COM") == [
        Denial(DenialKind.EMAIL, "mallory@mail.example.com"),
        Denial(DenialKind.EMAIL_DOMAIN, "mail.example.com"),
        Denial(DenialKind.EMAIL_DOMAIN, "example.com"),
        Denial(DenialKind.EMAIL_DOMAIN, "com"),
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [(DenialKind.EMAIL, " Mallory@Example.COM "), (DenialKind.EMAIL_DOMAIN, "EXAMPLE.com\n")],
)
def test_case_and_the_blanks_around_it_do_not_matter(kind: DenialKind, text: str) -> None:
    assert Denial.of(kind, text) in denials_of("mallory@example.com")


@pytest.mark.parametrize("text", ["ample.com", "xample.com", "example.co", "mail.example.com"])
def test_a_domain_is_matched_by_whole_labels(text: str) -> None:
    assert Denial.of(DenialKind.EMAIL_DOMAIN, text) not in denials_of("mallory@example.com")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (DenialKind.EMAIL, ""),
        (DenialKind.EMAIL, "example.com"),
        (DenialKind.EMAIL, "a@b@c"),
        (DenialKind.EMAIL, "Mallory <mallory@example.com>"),
        (DenialKind.EMAIL, "mallory@example.com, eve@example.com"),
        (DenialKind.EMAIL_DOMAIN, ""),
        (DenialKind.EMAIL_DOMAIN, "@example.com"),
        (DenialKind.EMAIL_DOMAIN, "*.example.com"),
        (DenialKind.EMAIL_DOMAIN, "b\u00fccher.example"),
        (DenialKind.EMAIL_DOMAIN, "example..com"),
        (DenialKind.EMAIL_DOMAIN, f"{'a' * 251}.com"),
    ],
)
def test_what_could_never_match_is_no_entry(kind: DenialKind, text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        Denial.of(kind, text)


def test_a_masked_entry_names_nobody() -> None:
    masked = Denial.of(DenialKind.EMAIL, "mallory@example.com").masked

    assert masked == "m***@example.com"
    assert Denial.of(DenialKind.EMAIL_DOMAIN, "example.com").masked == "example.com"
