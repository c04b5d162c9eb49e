"""The simulator signs as the PSP does: checked against vectors the PSP's libraries publish."""

import json
from typing import Any

import pytest

from simulator.notifications import signature, signed_body, signing_string

PYTHON_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
NODE_KEY = "DFB1EB5485895CFA84146406857104ABB4CBCABDC8AAF103A624C8F6A3EAAB00"
PHP_KEY = "C56F00E99723D90F65254B00746844BED11BCDD0DD42B26EC980DC1301C6CD20"
REFERENCES_KEY = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"
DOTNET_KEY = "AABBCCDDEEFF" * 5 + "AABB"


def an_item(
    psp_reference: str, account: str, reference: str, value: int, **changes: str | dict[str, str]
) -> dict[str, Any]:
    return {
        "pspReference": psp_reference,
        "merchantAccountCode": account,
        "merchantReference": reference,
        "amount": {"value": value, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
        **changes,
    }


HEX = "7914073381342284"
SHOP = "TestMerchant"
ORDER = "TestPayment-1407325143704"
TONI = "AntoniStroinski"

VECTORS = [
    # key            item                                                          signature
    (PYTHON_KEY,     an_item(HEX, SHOP, ORDER, 1130),
     "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="),
    (NODE_KEY,       an_item(HEX, SHOP, ORDER, 1130),
     "Ny9gS2veKo5E4w8/OL6xz1/wvT/hYkAXy1xNc/QvO4I="),
    (PYTHON_KEY,     an_item(HEX, SHOP, ORDER, 0, eventCode="REFUND"),
     "J7HhsgZo5KwqdB7LFZJV6rfQgp+RqC2kuYyw/3x3w+8="),
    (PHP_KEY,        an_item("TEST_CUSTOM_" + HEX, "PHPApiLibrary", "auth:123", 113000),
     "ovT21mqdbQToGbWssIhnBXAlnkhgKuehtGwvYFf5h2Q="),
    (REFERENCES_KEY, an_item("T7FD4VM4D3RZNN82", TONI, "\\\\slashes are fun", 1000),
     "nIgT81gaB5oJpn2jPXupDq68iRo2wUlBsuYjtYfwKqo="),
    (REFERENCES_KEY, an_item("M8NB66SBZSGLNK82", TONI, ":slashes are fun", 1000),
     "2EQYm7YJpKO4EtHSPu55SQTyWf8dkW5u2nD1tJFpViA="),
    (REFERENCES_KEY, an_item("X3GWNS6KJ8NKGK82", TONI, "//slashes are fun", 1000),
     "9Z0xdpG9Xi3zcmXv14t/BvMBut77O/Xq9D4CQXSDUi4="),
    (REFERENCES_KEY, an_item("ZVWN7D3WSMK2WN82", TONI, "\\:/\\/slashes are fun", 1000),
     "CZErGCNQaSsxbaQfZaJlakqo7KPP+mIa8a+wx3yNs9A="),
    (DOTNET_KEY,     an_item("ZVWN7D3WSMK2WN82", TONI, "\\:/\\/slashes are fun", 1000),
     "cyYGGNUYxRCIwmfET0zxNPQN/m9cKR6xNECwPzTfJIQ="),
    (NODE_KEY,       an_item("pspReference", "merchantAccount", "reference", 1000,
                             originalReference="originalReference",
                             eventCode="REPORT_AVAILABLE"),
     "ZNBPtI+oDyyRrLyD1XirkKnQgIAlFc07Vj27TeHsDRE="),
]  # fmt: skip


@pytest.mark.parametrize(("key", "item", "expected"), VECTORS)
def test_signature_equals_the_published_vector(
    key: str, item: dict[str, Any], expected: str
) -> None:
    assert signature(item, bytes.fromhex(key)) == expected


def test_absent_and_null_values_sign_as_empty_and_keep_their_separators() -> None:
    item = {"pspReference": "P", "originalReference": None, "eventCode": "E", "success": "true"}

    assert signing_string(item) == "P::::::E:true"


def test_envelope_holds_one_signed_item_and_keeps_its_other_additional_data() -> None:
    item = an_item(HEX, SHOP, ORDER, 1130, additionalData={"modification.action": "refund"})

    envelope = json.loads(signed_body(item, bytes.fromhex(PYTHON_KEY)))

    assert envelope["live"] == "false"
    [wrapped] = envelope["notificationItems"]
    assert wrapped["NotificationRequestItem"]["additionalData"] == {
        "modification.action": "refund",
        "hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=",
    }
