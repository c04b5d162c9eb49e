"""The request bodies of the merchant API, and how their errors are named."""

import json
import re
from collections.abc import Collection
from typing import Annotated, TypeVar

from flask import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from app.domain.money import AMOUNT_MINOR_MAX
from app.domain.payment import CaptureMode
from app.errors import InvalidFields, MalformedRequest, UnsupportedContentType
from app.http.card_numbers import refuse_card_numbers

M = TypeVar("M", bound=BaseModel)

#: The addresses that HTML's `type=email` takes, and that mail carries without quoting.
_MAIL_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def is_printable(text: str) -> bool:
    """Tell whether the text holds no control character, line break or half character."""
    return text.isprintable()


def is_storable(text: str) -> bool:
    """Tell whether Postgres takes the text: no NUL, no half character."""
    return "\x00" not in text and not _HALF_CHARACTER.search(text)


def _printable(text: str) -> str:
    if not is_printable(text):
        raise ValueError("holds a control character")
    return text


def _mail_address(text: str) -> str:
    if not _MAIL_ADDRESS.fullmatch(text):
        raise ValueError("is not a mail address")
    return text


#: The PSP takes references of up to 80 characters (psp-webhooks.md section 6).
Reference = Annotated[
    str,
    StringConstraints(min_length=1, max_length=80, strip_whitespace=True),
    AfterValidator(_printable),
]
Name = Annotated[str, StringConstraints(max_length=120), AfterValidator(_printable)]
MailAddress = Annotated[
    str,
    StringConstraints(max_length=254),
    AfterValidator(_printable),
    AfterValidator(_mail_address),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AmountBody(_Body):
    """An amount in minor units: ``{"value": 12500, "currency": "EUR"}`` is 125.00 euros."""

    value: int = Field(ge=1, le=AMOUNT_MINOR_MAX)
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class PaymentMethodBody(_Body):
    """How the shopper pays: a token of the PSP, never a card number."""

    type: Name = "scheme"
    holder_name: Name = ""
    token: Name | None = None


class ShopperBody(_Body):
    """Who pays."""

    email: MailAddress


class BookingBody(_Body):
    """What is paid for."""

    reference: Reference


class StartPaymentBody(_Body):
    """The body of ``POST /payments``."""

    merchant_reference: Reference
    amount: AmountBody
    capture: Annotated[CaptureMode, Field(strict=False)] = CaptureMode.MANUAL
    payment_method: PaymentMethodBody
    shopper: ShopperBody
    booking: BookingBody

    def details(self) -> dict[str, dict[str, str]]:
        """Return what the saga's steps need beyond the amount."""
        return {
            "payment_method": self.payment_method.model_dump(exclude_none=True),
            "shopper": self.shopper.model_dump(),
            "booking": self.booking.model_dump(),
        }


def read_body(
    request: Request, model: type[M], *, no_card_number: Collection[str] = ()
) -> tuple[M, object]:
    """Read a JSON body.

    Args:
        request: The request.
        model: What the body must be.
        no_card_number: Fields that may look like a card number and are none.

    Returns:
        The body as the model, and as plain JSON for its fingerprint.

    Raises:
        UnsupportedContentType: Not sent as JSON.
        MalformedRequest: Not JSON.
        CardNumberRefused: See ``refuse_card_numbers``.
        InvalidFields: A field is wrong; each is named.
    """
    if not request.is_json:
        raise UnsupportedContentType
    try:
        body: object = json.loads(request.get_data())
        refuse_card_numbers(body, but=no_card_number)
    except (ValueError, RecursionError):
        raise MalformedRequest from None
    try:
        return model.model_validate(body), body
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidFields({_path(one["loc"]): one["msg"] for one in found}) from None


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "body"
