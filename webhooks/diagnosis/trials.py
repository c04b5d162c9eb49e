"""Which of the keys that we know made a signature."""

import base64
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from webhooks.diagnosis.claims import Claim
from webhooks.diagnosis.findings import Finding, FindingCode
from webhooks.signatures import DIGEST_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """An HMAC key, live or not. Its bytes stay out of its ``repr``.

    Attributes:
        expired_at: None while it is live.
        environments: Of webhooks that it verified: True stands for live, False for test.
    """

    merchant_account: str
    check_value: str
    secret: bytes = field(repr=False)
    expired_at: datetime | None = None
    environments: frozenset[bool] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredItem:
    """An authentic item of the same payment."""

    guid: UUID
    event_code: str
    signed_values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What we know that bears on one claim.

    Attributes:
        is_registered: Whether the claimed account is.
        keys: Whose signatures count, newest first, and those that once did.
        others: Keys of other accounts.
        stored: Items of the same account and PSP reference, newest first.
    """

    is_registered: bool = True
    keys: tuple[KnownKey, ...] = ()
    others: tuple[KnownKey, ...] = ()
    stored: tuple[StoredItem, ...] = ()

    @property
    def live_keys(self) -> tuple[KnownKey, ...]:
        """The keys that verify today."""
        return tuple(key for key in self.keys if key.expired_at is None)


EvidenceOf = Callable[[Claim], Evidence]
KeyForm = Callable[[bytes], bytes]


def _as_bytes(secret: bytes) -> bytes:
    return secret


def _as_lower_text(secret: bytes) -> bytes:
    return secret.hex().encode()


def _as_upper_text(secret: bytes) -> bytes:
    return secret.hex().upper().encode()


def read_signature(signature: str | None) -> bytes | Finding:
    """Return the signature's bytes, or why it can be no signature at all."""
    if not signature:
        return Finding(
            code=FindingCode.MISSING_SIGNATURE, sentence="There is no signature where one belongs."
        )
    try:
        given = base64.b64decode(signature, validate=True)
    except ValueError:
        return Finding(
            code=FindingCode.SIGNATURE_NOT_BASE64, sentence="The signature is not Base64."
        )
    if len(given) != DIGEST_BYTES:
        return Finding(
            code=FindingCode.SIGNATURE_WRONG_LENGTH,
            sentence=f"The signature has {len(given)} bytes; an HMAC-SHA256 has {DIGEST_BYTES}.",
        )
    return given


def signer(
    message: bytes, given: bytes, keys: Iterable[KnownKey], form: KeyForm = _as_bytes
) -> KnownKey | None:
    """Return the first key that signs ``message`` as given; the time taken does not say which."""
    fitting = [
        key
        for key in keys
        if hmac.compare_digest(hmac.digest(form(key.secret), message, sha256), given)
    ]
    return fitting[0] if fitting else None


def try_keys(message: bytes, given: bytes, evidence: Evidence, *, is_live: bool) -> list[Finding]:
    """Try every key on exactly what is signed: as it should be, then as it should not."""
    if key := signer(message, given, evidence.live_keys):
        sentence = f"It is signed with {name(key)} of {key.merchant_account}."
        return [Finding(code=FindingCode.VALID, sentence=sentence)]
    everyones = (*evidence.keys, *evidence.others)
    if key := signer(message, given, everyones):
        return about(key, evidence, is_live=is_live)
    for form in (_as_lower_text, _as_upper_text):
        if key := signer(message, given, everyones, form):
            text = Finding(
                code=FindingCode.KEY_AS_TEXT,
                sentence=f"The hexadecimal digits of {name(key)} were used as the key itself.",
            )
            return [text, *about(key, evidence, is_live=is_live)]
    return []


def about(key: KnownKey, evidence: Evidence, *, is_live: bool) -> list[Finding]:
    """Return what is to be said of a key that signed; nothing of a live one of the account."""
    if key in evidence.keys:
        return [] if key.expired_at is None else [_expired(key)]
    sentence = f"It is signed with {name(key)} of {key.merchant_account}, which is another account."
    return [
        Finding(code=FindingCode.OTHER_ACCOUNTS_KEY, sentence=sentence),
        *environment([key], is_live=is_live),
    ]


def environment(keys: Iterable[KnownKey], *, is_live: bool) -> list[Finding]:
    """Say so if all that the keys ever verified is of the other environment."""
    if frozenset[bool]().union(*(key.environments for key in keys)) != {not is_live}:
        return []
    here, there = ("live", "a test") if is_live else ("a test", "live")
    return [
        Finding(
            code=FindingCode.TEST_KEY_ON_LIVE if is_live else FindingCode.LIVE_KEY_ON_TEST,
            sentence=f"It says it is {here}; all that this key verified so far was {there}.",
        )
    ]


def name(key: KnownKey) -> str:
    """Name a key without showing it."""
    return f"key {key.check_value}"


def _expired(key: KnownKey) -> Finding:
    return Finding(
        code=FindingCode.EXPIRED_KEY,
        sentence=f"It is signed with {name(key)}, which expired at {key.expired_at:%Y-%m-%d %H:%M}"
        " UTC.",
    )
