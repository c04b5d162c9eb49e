"""What can be found wrong with a webhook's signature, in words for operators.

No finding holds a key, a signature or what a signature should have been: whoever reads findings can
forge nothing. A key is named by its check value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from webhooks.diagnosis.claims import Claim


class FindingCode(StrEnum):
    """Stable names of findings, for programs."""

    VALID = "valid"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNKNOWN_ACCOUNT = "unknown_account"
    WRONG_BASIC = "wrong_basic"
    NO_LIVE_KEY = "no_live_key"
    MISSING_SIGNATURE = "missing_signature"
    SIGNATURE_NOT_BASE64 = "signature_not_base64"
    SIGNATURE_WRONG_LENGTH = "signature_wrong_length"
    EXPIRED_KEY = "expired_key"
    OTHER_ACCOUNTS_KEY = "other_accounts_key"
    KEY_AS_TEXT = "key_as_text"
    ESCAPED_SIGNING_STRING = "escaped_signing_string"
    NULL_AS_TEXT = "null_as_text"
    BOOLEAN_AS_PYTHON = "boolean_as_python"
    HEADER_SCHEME_ON_ITEM_ROUTE = "header_scheme_on_item_route"
    ITEM_SCHEME_ON_HEADER_ROUTE = "item_scheme_on_header_route"
    BODY_RESERIALISED = "body_reserialised"
    ALTERED_FIELD = "altered_field"
    ALTERED_SIGNATURE = "altered_signature"
    TEST_KEY_ON_LIVE = "test_key_on_live"
    LIVE_KEY_ON_TEST = "live_key_on_test"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is so.

    Attributes:
        code: For programs.
        sentence: For people. It holds nothing of what a stranger sent but names of fields.
    """

    code: FindingCode
    sentence: str

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return NEXT_STEPS[self.code]

    def as_json(self) -> dict[str, str]:
        """Return the finding as it is kept and printed."""
        return {"code": self.code, "sentence": self.sentence, "next_step": self.next_step}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that is found about one item, or about a body as a whole.

    Attributes:
        where: Such as ``notificationItems[0]``.
        signing_string: What the PSP signs of the item; None if it is the body, or can't be read.
        findings: Never empty; what refuses the webhook comes before what explains it.
    """

    where: str
    claim: Claim
    findings: tuple[Finding, ...]
    signing_string: str | None = None

    @property
    def is_authentic(self) -> bool:
        """True if the service accepts it."""
        return all(finding.code is FindingCode.VALID for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """Return what is kept: the findings, and nothing that a stranger sent."""
        return {"where": self.where, "findings": [one.as_json() for one in self.findings]}


_C = FindingCode

_ADD_KEY = "Add it with `countersign merchant key add`; the PSP delivers the webhook again."
_SENDER = (
    "Correct the program that signs: HMAC-SHA256 under the hex-decoded key, over the UTF-8 of the"
    " eight values joined by colons, in Base64."
)
_PATH = "Look for what changes bodies on the way here: a proxy, a filter, a replay by hand."
_ENVIRONMENT = (
    "Add the key of the endpoint of the other environment with `countersign merchant key add`, or"
    " correct the URL in the PSP's customer area."
)

NEXT_STEPS: Mapping[FindingCode, str] = MappingProxyType(
    {
        _C.VALID: "Nothing.",
        _C.MALFORMED: (
            "If it comes from the PSP, report the field; else correct the program that sends it."
        ),
        _C.TOO_LARGE: "Find out who sends it: no webhook of the PSP is as large.",
        _C.UNKNOWN_ACCOUNT: (
            "If the account is yours, register it with `countersign merchant add`; else correct"
            " the endpoint's accounts in the PSP's customer area."
        ),
        _C.WRONG_BASIC: (
            "Compare user and password of the endpoint in the PSP's customer area with those of"
            " `countersign merchant basic`; see that no proxy takes the Authorization header away."
        ),
        _C.NO_LIVE_KEY: (
            "Add the endpoint's key with `countersign merchant key add`: until then every webhook"
            " of the account is refused."
        ),
        _C.MISSING_SIGNATURE: (
            "Generate an HMAC key for the endpoint in the PSP's customer area, and add it with"
            " `countersign merchant key add`."
        ),
        _C.SIGNATURE_NOT_BASE64: _SENDER,
        _C.SIGNATURE_WRONG_LENGTH: _SENDER,
        _C.EXPIRED_KEY: (
            "If the key was replaced less than 30 days ago, make it live again with `countersign"
            " merchant key add`: the PSP still delivers what it signed before. Else generate a new"
            " key in the PSP's customer area."
        ),
        _C.OTHER_ACCOUNTS_KEY: (
            "If one endpoint serves both accounts, add its key to this account too, with"
            " `countersign merchant key add`; else correct the endpoint's key."
        ),
        _C.KEY_AS_TEXT: (
            "Decode the hexadecimal key to its 32 bytes before signing; the PSP itself does."
        ),
        _C.ESCAPED_SIGNING_STRING: (
            "Sign the values as they are: escaping belongs to a scheme that the PSP has retired."
        ),
        _C.NULL_AS_TEXT: "Sign an absent or null value as an empty one.",
        _C.BOOLEAN_AS_PYTHON: "Sign success as `true` or `false`, in lower case.",
        _C.HEADER_SCHEME_ON_ITEM_ROUTE: (
            "Point this webhook at /webhooks/adyen/platform: a signature in the header covers the"
            " body, not the items."
        ),
        _C.ITEM_SCHEME_ON_HEADER_ROUTE: (
            "Point this webhook at /webhooks/adyen: a standard webhook is signed in its items."
        ),
        _C.BODY_RESERIALISED: (
            "Pass the body on byte for byte: find what reads and rewrites it on the way here."
        ),
        _C.ALTERED_FIELD: _PATH,
        _C.ALTERED_SIGNATURE: _PATH,
        _C.TEST_KEY_ON_LIVE: _ENVIRONMENT,
        _C.LIVE_KEY_ON_TEST: _ENVIRONMENT,
        _C.UNEXPLAINED: (
            "Compare the check value of the endpoint's key with `countersign merchant key list`: "
            "if it is none of them, the key was never added. "
            + _ADD_KEY
            + " If it is, somebody else sent this."
        ),
    }
)
