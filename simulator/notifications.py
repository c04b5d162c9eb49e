"""A webhook item in the PSP's wire format, and its signature."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from simulator import clock
from simulator.payments import Payment

AUTHORISED_REASON = "874574:1935:11/2030"  #: Authorisation code, last four digits, expiry.
DEFAULT_CURRENCY = "EUR"  #: Of an event without a payment; the field is never empty.

#: What the shopper chose, by what the request called it.
BRANDS = {"scheme": "visa"}


def signing_string(item: Mapping[str, Any]) -> str:
    """Join the eight signed values with colons, unescaped; absent and null sign as empty."""
    amount = item.get("amount") or {}
    values = (
        item.get("pspReference"),
        item.get("originalReference"),
        item.get("merchantAccountCode"),
        item.get("merchantReference"),
        amount.get("value"),
        amount.get("currency"),
        item.get("eventCode"),
        item.get("success"),
    )
    return ":".join("" if value is None else str(value) for value in values)


def signature(item: Mapping[str, Any], key: bytes) -> str:
    """Return the Base64 HMAC-SHA256 of the item's signing string."""
    digest = hmac.digest(key, signing_string(item).encode(), hashlib.sha256)
    return base64.b64encode(digest).decode("ascii")


def signed_body(item: Mapping[str, Any], key: bytes) -> str:
    """Return the item in its envelope, signed, as the JSON text that goes over the wire."""
    additional = {**item.get("additionalData", {}), "hmacSignature": signature(item, key)}
    signed = {**item, "additionalData": additional}
    envelope = {"live": "false", "notificationItems": [{"NotificationRequestItem": signed}]}
    return json.dumps(envelope, ensure_ascii=False)


def authorisation(payment: Payment, *, is_success: bool, reason: str, at: float) -> dict[str, Any]:
    """Return the AUTHORISATION item of a payment."""
    item = _item(payment, "AUTHORISATION", is_success=is_success, reason=reason, at=at)
    if is_success:
        item["operations"] = ["CANCEL", "CAPTURE", "REFUND"]
    return item


def modification(
    payment: Payment,
    event_code: str,
    *,
    psp_reference: str,
    reference: str,
    amount: int,
    is_success: bool,
    reason: str,
    at: float,
) -> dict[str, Any]:
    """Return the outcome item of a modification; ``reference`` is the modification's own."""
    item = _item(payment, event_code, is_success=is_success, reason=reason, at=at)
    item["pspReference"] = psp_reference
    item["originalReference"] = payment.psp_reference
    item["merchantReference"] = reference
    item["amount"]["value"] = amount
    return item


def _item(
    payment: Payment, event_code: str, *, is_success: bool, reason: str, at: float
) -> dict[str, Any]:
    """Return what every item about a payment says."""
    return {
        "additionalData": {},
        "amount": {"value": payment.requested, "currency": payment.currency},
        "eventCode": event_code,
        "eventDate": clock.event_date(at),
        "merchantAccountCode": payment.merchant_account,
        "merchantReference": payment.merchant_reference,
        "paymentMethod": BRANDS.get(payment.payment_method, payment.payment_method),
        "pspReference": payment.psp_reference,
        "reason": reason,
        "success": "true" if is_success else "false",
    }


def void_of_unseen(
    *, psp_reference: str, merchant_account: str, payment_reference: str, at: float
) -> dict[str, Any]:
    """Return the TECHNICAL_CANCEL item for a reference without a payment."""
    return complete(
        {
            "eventCode": "TECHNICAL_CANCEL",
            "merchantReference": payment_reference,
            "pspReference": psp_reference,
        },
        psp_reference=psp_reference,
        merchant_account=merchant_account,
        at=at,
    )


def complete(
    partial: Mapping[str, Any], *, psp_reference: str, merchant_account: str, at: float
) -> dict[str, Any]:
    """Fill in what the wire format requires and ``partial`` leaves out."""
    return {
        "additionalData": {},
        "amount": {"value": 0, "currency": DEFAULT_CURRENCY},
        "eventCode": "AUTHORISATION",
        "eventDate": clock.event_date(at),
        "merchantAccountCode": merchant_account,
        "merchantReference": "",
        "pspReference": psp_reference,
        "reason": "",
        "success": "true",
        **partial,
    }
