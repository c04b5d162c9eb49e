"""Signed webhooks by the thousand, of the shape and size that the PSP sends: some 700 bytes."""

import random
from base64 import b32encode

from bench.support import load
from tests.support.builders import ACCOUNT, EUR_125, HMAC_KEY
from webhooks.signatures import sign, signing_string

PATH = "/webhooks/adyen"

#: More than two cores take in beside the load; a run that gets through them ends early.
REQUESTS_A_SECOND_MAX = 12_000

_BODY = (
    '{"live":"false","notificationItems":[{"NotificationRequestItem":{"additionalData":{'
    '"authCode":"054321","cardSummary":"1111","expiryDate":"03/2030","cardHolderName":"S Hopper",'
    '"recurringProcessingModel":"CardOnFile","cardBin":"411111","avsResult":"4 AVS not supported",'
    '"hmacSignature":"%(signature)s"},"amount":{"currency":"EUR","value":%(amount)s},'
    '"eventCode":"%(event_code)s","eventDate":"2026-11-20T10:00:00+01:00",'
    '"merchantAccountCode":"%(account)s","merchantReference":"%(merchant_reference)s",'
    '"originalReference":"%(original_reference)s","paymentMethod":"visa",'
    '"pspReference":"%(psp_reference)s","reason":"054321:1111:03/2030","success":"%(success)s"}}]}'
)


def reference() -> str:
    """Return a PSP reference that no other webhook of the run has: 16 characters, in no order."""
    return b32encode(random.randbytes(10)).decode()


def body(
    event_code: str = "AUTHORISATION",
    *,
    psp_reference: str,
    merchant_reference: str,
    original_reference: str = "",
    success: bool = True,
) -> bytes:
    """Return the body of a signed webhook of one item."""
    values = {
        "psp_reference": psp_reference,
        "original_reference": original_reference,
        "account": ACCOUNT,
        "merchant_reference": merchant_reference,
        "amount": str(EUR_125.amount_minor),
        "currency": EUR_125.currency,
        "event_code": event_code,
        "success": "true" if success else "false",
    }  # in signing order
    signature = sign(signing_string(tuple(values.values())), HMAC_KEY)
    return (_BODY % {**values, "signature": signature}).encode()


def authorisation(psp_reference: str, *, success: bool = True) -> bytes:
    """Return a payment's authorisation; it has one name with the PSP and with us."""
    return body(psp_reference=psp_reference, merchant_reference=psp_reference, success=success)


def new(number: int) -> list[bytes]:
    """Return so many requests, each with an authorisation of its own."""
    return [load.request(PATH, authorisation(reference())) for _ in range(number)]


def plenty(seconds: float) -> list[bytes]:
    """Return more new requests than anything here takes in so fast, made before the clock runs."""
    return new(int(REQUESTS_A_SECOND_MAX * seconds))
