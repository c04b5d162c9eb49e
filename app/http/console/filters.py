"""How the console's pages write amounts and ages."""

from flask import Flask

from app.domain.money import Money
from app.queries.ages import as_age


def register_filters(flask_app: Flask) -> None:
    """Let templates use the filters of this module."""
    flask_app.add_template_filter(as_money)
    flask_app.add_template_filter(as_age)


def as_money(amount_minor: int, currency: str) -> str:
    """Write an amount in minor units for people: ``125.00 EUR``."""
    return str(Money(amount_minor, currency))
