"""A signature is accepted if a live key made it of exactly these bytes, and not otherwise."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidSignature
from tests.support.builders import HMAC_KEY, OTHER_HMAC_KEY, an_item, signed, unsigned_webhook
from webhooks.notifications import parse
from webhooks.signatures import sign, signing_string, verify

MESSAGE = b"8816178914079738::CountersignECOM:ORDER-1001:12500:EUR:AUTHORISATION:true"
SIGNATURE = sign(MESSAGE, HMAC_KEY)
KEYS = [("old", OTHER_HMAC_KEY), ("new", HMAC_KEY)]

SIGNED_FIELDS = {
    "pspReference": "8816178914079739",
    "originalReference": "8816178914079730",
    "merchantAccountCode": "CountersignPOS",
    "merchantReference": "ORDER-1002",
    "amount": {"value": 12501, "currency": "EUR"},
    "amount.currency": {"value": 12500, "currency": "USD"},
    "eventCode": "CAPTURE",
    "success": "false",
}


@pytest.mark.parametrize("key", [HMAC_KEY, OTHER_HMAC_KEY])
def test_every_live_key_is_accepted_and_named(key: bytes) -> None:
    [name] = verify(MESSAGE, sign(MESSAGE, key), KEYS)

    assert dict(KEYS)[name] == key


def test_no_live_key_accepts_nothing() -> None:
    with pytest.raises(InvalidSignature, match="no live key"):
        verify(MESSAGE, SIGNATURE, [])


def test_signature_under_a_key_that_is_not_live_is_refused() -> None:
    with pytest.raises(InvalidSignature, match="no live key"):
        verify(MESSAGE, SIGNATURE, [("old", OTHER_HMAC_KEY)])


@pytest.mark.parametrize("signature", [None, ""])
def test_missing_signature_is_refused(signature: str | None) -> None:
    with pytest.raises(InvalidSignature, match="no signature"):
        verify(MESSAGE, signature, KEYS)


@pytest.mark.parametrize(
    "signature",
    ["not base64!", SIGNATURE[:-1], SIGNATURE[:-2], f" {SIGNATURE}", f"{SIGNATURE}\n", "Ünïcode="],
)
def test_signature_that_is_not_base64_is_refused(signature: str) -> None:
    with pytest.raises(InvalidSignature, match="not Base64"):
        verify(MESSAGE, signature, KEYS)


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_signature_of_another_length_is_refused(length: int) -> None:
    whole = base64.b64decode(SIGNATURE)
    signature = base64.b64encode((whole * 2)[:length]).decode()

    with pytest.raises(InvalidSignature):
        verify(MESSAGE, signature, KEYS)


def test_44_characters_that_decode_to_33_bytes_are_refused() -> None:
    signature = base64.b64encode(base64.b64decode(SIGNATURE) + b"!").decode()

    assert len(signature) == 44
    with pytest.raises(InvalidSignature, match="32 bytes"):
        verify(MESSAGE, signature, KEYS)


def test_signature_in_hex_is_refused() -> None:
    with pytest.raises(InvalidSignature):
        verify(MESSAGE, base64.b64decode(SIGNATURE).hex(), KEYS)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(position=st.integers(0, len(MESSAGE) - 1), flipped=st.integers(1, 255))
def test_any_altered_byte_is_noticed(position: int, flipped: int) -> None:
    altered = bytearray(MESSAGE)
    altered[position] ^= flipped

    with pytest.raises(InvalidSignature):
        verify(bytes(altered), SIGNATURE, KEYS)


@pytest.mark.parametrize("field", SIGNED_FIELDS)
def test_altering_any_signed_field_breaks_the_signature(field: str) -> None:
    item = signed(an_item()) | {field.partition(".")[0]: SIGNED_FIELDS[field]}
    [notification] = parse(unsigned_webhook(item))

    with pytest.raises(InvalidSignature):
        verify(signing_string(notification.signed_values), notification.signature, KEYS)


def test_values_are_signed_as_utf8() -> None:
    assert signing_string(["Zoë", "", "€"]) == "Zoë::€".encode()
