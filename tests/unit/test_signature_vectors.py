"""Signatures that the PSP's own libraries publish verify here, from the body to the verdict."""

from dataclasses import dataclass

import pytest

from app.errors import InvalidSignature
from tests.support.builders import an_item, unsigned_webhook
from webhooks.notifications import Notification, parse
from webhooks.signatures import sign, signing_string, verify

PYTHON_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
NODE_KEY = "DFB1EB5485895CFA84146406857104ABB4CBCABDC8AAF103A624C8F6A3EAAB00"
PHP_KEY = "C56F00E99723D90F65254B00746844BED11BCDD0DD42B26EC980DC1301C6CD20"
REFERENCES_KEY = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"
DOTNET_KEY = "AABBCCDDEEFF" * 5 + "AABB"


@dataclass(frozen=True)
class Vector:
    """A row of psp-webhooks.md section 2; ``values`` in signing order, ``text`` as published."""

    key: str
    values: tuple[str, str, str, str, int, str, str]
    text: str
    signature: str

    @property
    def notification(self) -> Notification:
        psp, original, account, reference, value, currency, event_code = self.values
        item = an_item(
            event_code,
            psp_reference=psp,
            original_reference=original,
            merchant_account=account,
            merchant_reference=reference,
            amount_minor=value,
            currency=currency,
            additional={"hmacSignature": self.signature},
        )
        [notification] = parse(unsigned_webhook(item))
        return notification


ORDER = ("7914073381342284", "", "TestMerchant", "TestPayment-1407325143704")
ORDER_TEXT = "7914073381342284::TestMerchant:TestPayment-1407325143704:1130:EUR:AUTHORISATION:true"
TONI = "AntoniStroinski"
MIXED = ("ZVWN7D3WSMK2WN82", "", TONI, r"\:/\/slashes are fun", 1000, "EUR", "AUTHORISATION")
MIXED_TEXT = r"ZVWN7D3WSMK2WN82::AntoniStroinski:\:/\/slashes are fun:1000:EUR:AUTHORISATION:true"

VECTORS = {
    "py-unit-authorisation-1130": Vector(
        PYTHON_KEY,
        (*ORDER, 1130, "EUR", "AUTHORISATION"),
        ORDER_TEXT,
        "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=",
    ),
    "php-unit-authorisation-otherkey": Vector(
        NODE_KEY,
        (*ORDER, 1130, "EUR", "AUTHORISATION"),
        ORDER_TEXT,
        "Ny9gS2veKo5E4w8/OL6xz1/wvT/hYkAXy1xNc/QvO4I=",
    ),
    "php-unit-refund-zero": Vector(
        PYTHON_KEY,
        (*ORDER, 0, "EUR", "REFUND"),
        "7914073381342284::TestMerchant:TestPayment-1407325143704:0:EUR:REFUND:true",
        "J7HhsgZo5KwqdB7LFZJV6rfQgp+RqC2kuYyw/3x3w+8=",
    ),
    "php-unit-colon-empty-original": Vector(
        PHP_KEY,
        (
            "TEST_CUSTOM_7914073381342284",
            "",
            "PHPApiLibrary",
            "auth:123",
            113000,
            "EUR",
            "AUTHORISATION",
        ),
        "TEST_CUSTOM_7914073381342284::PHPApiLibrary:auth:123:113000:EUR:AUTHORISATION:true",
        "ovT21mqdbQToGbWssIhnBXAlnkhgKuehtGwvYFf5h2Q=",
    ),
    "py-backslash-reference": Vector(
        REFERENCES_KEY,
        ("T7FD4VM4D3RZNN82", "", TONI, r"\\slashes are fun", 1000, "EUR", "AUTHORISATION"),
        r"T7FD4VM4D3RZNN82::AntoniStroinski:\\slashes are fun:1000:EUR:AUTHORISATION:true",
        "nIgT81gaB5oJpn2jPXupDq68iRo2wUlBsuYjtYfwKqo=",
    ),
    "py-colon-reference": Vector(
        REFERENCES_KEY,
        ("M8NB66SBZSGLNK82", "", TONI, ":slashes are fun", 1000, "EUR", "AUTHORISATION"),
        "M8NB66SBZSGLNK82::AntoniStroinski::slashes are fun:1000:EUR:AUTHORISATION:true",
        "2EQYm7YJpKO4EtHSPu55SQTyWf8dkW5u2nD1tJFpViA=",
    ),
    "py-forwardslash-reference": Vector(
        REFERENCES_KEY,
        ("X3GWNS6KJ8NKGK82", "", TONI, "//slashes are fun", 1000, "EUR", "AUTHORISATION"),
        "X3GWNS6KJ8NKGK82::AntoniStroinski://slashes are fun:1000:EUR:AUTHORISATION:true",
        "9Z0xdpG9Xi3zcmXv14t/BvMBut77O/Xq9D4CQXSDUi4=",
    ),
    "py-mixed-reference": Vector(
        REFERENCES_KEY, MIXED, MIXED_TEXT, "CZErGCNQaSsxbaQfZaJlakqo7KPP+mIa8a+wx3yNs9A="
    ),
    "dotnet-unit-mixed-aabb-key": Vector(
        DOTNET_KEY, MIXED, MIXED_TEXT, "cyYGGNUYxRCIwmfET0zxNPQN/m9cKR6xNECwPzTfJIQ="
    ),
    "node-unit-report-available": Vector(
        NODE_KEY,
        (
            "pspReference",
            "originalReference",
            "merchantAccount",
            "reference",
            1000,
            "EUR",
            "REPORT_AVAILABLE",
        ),
        "pspReference:originalReference:merchantAccount:reference:1000:EUR:REPORT_AVAILABLE:true",
        "ZNBPtI+oDyyRrLyD1XirkKnQgIAlFc07Vj27TeHsDRE=",
    ),
}

each_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)


@each_vector
def test_parsed_item_has_the_published_signing_string(vector: Vector) -> None:
    assert signing_string(vector.notification.signed_values).decode() == vector.text


@each_vector
def test_published_signature_verifies(vector: Vector) -> None:
    notification = vector.notification
    message = signing_string(notification.signed_values)

    assert verify(message, notification.signature, [("key", bytes.fromhex(vector.key))]) == ["key"]


@each_vector
def test_we_sign_as_the_psp_does(vector: Vector) -> None:
    assert sign(vector.text.encode(), bytes.fromhex(vector.key)) == vector.signature


@each_vector
def test_hex_digits_of_the_key_as_ascii_are_another_key(vector: Vector) -> None:
    with pytest.raises(InvalidSignature):
        verify(vector.text.encode(), vector.signature, [("key", vector.key.encode())])


@each_vector
def test_another_key_does_not_verify(vector: Vector) -> None:
    with pytest.raises(InvalidSignature):
        verify(vector.text.encode(), vector.signature, [("key", bytes(32))])


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS.values() if set(vector.values[3]) & {":", "\\"}],
)
def test_escaped_variant_does_not_verify(vector: Vector) -> None:
    escaped = [
        value.replace("\\", "\\\\").replace(":", "\\:")
        for value in vector.notification.signed_values
    ]

    with pytest.raises(InvalidSignature):
        verify(signing_string(escaped), vector.signature, [("key", bytes.fromhex(vector.key))])
