"""How the console's pages write amounts and ages."""

from flask import Flask

from app.domain.money import Money

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def register_filters(flask_app: Flask) -> None:
    """Let templates use the filters of this module."""
    flask_app.add_template_filter(as_money)
    flask_app.add_template_filter(as_age)


def as_money(amount_minor: int, currency: str) -> str:
    """Write an amount in minor units for people: ``125.00 EUR``."""
    return str(Money(amount_minor, currency))


def as_age(seconds: int) -> str:
    """Write an age in its largest unit: ``3 min``."""
    for size, name in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
