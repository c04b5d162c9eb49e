"""Checkout API request bodies into values, or into the PSP's error for what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.payments import Amount

REFERENCE_CHARACTERS_MAX = 80
RETURN_URL_CHARACTERS_MAX = 1024


class CheckoutRefusal(Exception):
    """The PSP answers with an error instead of doing anything.

    Attributes:
        status: The HTTP status.
        error_code: The PSP's code; a string even though it looks like a number.
        error_type: validation, security, configuration or internal.
    """

    def __init__(
        self, status: int, error_code: str, message: str, error_type: str = "validation"
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.error_type = error_type

    def to_json(self) -> dict[str, Any]:
        """Return the error body the PSP would send."""
        return {
            "status": self.status,
            "errorCode": self.error_code,
            "message": str(self),
            "errorType": self.error_type,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a merchant wants authorised."""

    merchant_account: str
    reference: str
    amount: Amount
    payment_method: str
    holder_name: str


def parse_order(body: Mapping[str, Any], merchant_account: str) -> Order:
    """Read the body of ``POST /payments``.

    Raises:
        CheckoutRefusal: A required field is missing or malformed; the message names it.
    """
    account = parse_merchant_account(body, merchant_account)
    amount = parse_amount(body)
    method = body.get("paymentMethod")
    if not isinstance(method, Mapping):
        raise _missing("paymentMethod")
    holder_name = method.get("holderName")
    order = Order(
        merchant_account=account,
        reference=_text(body, "reference", REFERENCE_CHARACTERS_MAX),
        amount=amount,
        payment_method=_text(method, "type", REFERENCE_CHARACTERS_MAX, "paymentMethod.type"),
        holder_name=holder_name if isinstance(holder_name, str) else "",
    )
    _text(body, "returnUrl", RETURN_URL_CHARACTERS_MAX)
    return order


def parse_merchant_account(body: Mapping[str, Any], merchant_account: str) -> str:
    """Return the body's merchant account.

    Raises:
        CheckoutRefusal: It is missing, or the API key has no rights on it.
    """
    account = _text(body, "merchantAccount", REFERENCE_CHARACTERS_MAX)
    if account != merchant_account:
        raise CheckoutRefusal(403, "901", "Invalid Merchant Account", "security")
    return account


def parse_amount(body: Mapping[str, Any]) -> Amount:
    """Return the body's amount in minor units.

    Raises:
        CheckoutRefusal: It is missing, not a positive integer, or without a currency.
    """
    amount = body.get("amount")
    if not isinstance(amount, Mapping):
        raise _missing("amount")
    value, currency = amount.get("value"), amount.get("currency")
    if value is None:
        raise _missing("amount.value")
    if currency is None:
        raise _missing("amount.currency")
    if type(value) is not int or value <= 0:
        raise CheckoutRefusal(422, "137", "Invalid amount specified: amount.value")
    if not (isinstance(currency, str) and currency.isascii() and currency.isupper()):
        raise CheckoutRefusal(422, "138", "Unsupported currency specified: amount.currency")
    if len(currency) != len("EUR"):
        raise CheckoutRefusal(422, "138", "Unsupported currency specified: amount.currency")
    return Amount(value, currency)


def parse_payment_reference(body: Mapping[str, Any]) -> str:
    """Return which payment ``POST /cancels`` means.

    Raises:
        CheckoutRefusal: It is missing or too long.
    """
    return _text(body, "paymentReference", REFERENCE_CHARACTERS_MAX)


def parse_own_reference(body: Mapping[str, Any]) -> str | None:
    """Return the modification's own reference, None if the merchant gave none.

    Raises:
        CheckoutRefusal: It is there and malformed.
    """
    if body.get("reference") is None:
        return None
    return _text(body, "reference", REFERENCE_CHARACTERS_MAX)


def _text(
    body: Mapping[str, Any], name: str, characters_max: int, shown_name: str | None = None
) -> str:
    """Return a required text field."""
    value = body.get(name)
    if value is None or value == "":
        raise _missing(shown_name or name)
    if not isinstance(value, str) or len(value) > characters_max:
        raise CheckoutRefusal(422, "702", f"Field '{shown_name or name}' is not valid.")
    return value


def _missing(name: str) -> CheckoutRefusal:
    """Return the PSP's error for a required field that is not there."""
    return CheckoutRefusal(422, "130", f"Required field '{name}' is not provided.")
