"""Why a webhook is refused: what we know of keys is tried in every way that is known to go wrong.

Pure: what is known comes from the caller (``webhooks.diagnosis.evidence``). The work is bounded,
since any stranger may choose what is diagnosed. The facts are in psp-webhooks.md sections 1 to 3.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import product

from app.errors import InvalidSignature, MalformedNotification
from webhooks import notifications, platform
from webhooks.diagnosis.alterations import differing_fields, likely_originals, misspellings
from webhooks.diagnosis.claims import (
    Claim,
    claim_of_body,
    claim_of_first_item,
    claim_of_item,
    is_live_body,
    read_json,
    where_json_ends,
)
from webhooks.diagnosis.findings import Diagnosis, Finding, FindingCode
from webhooks.diagnosis.trials import (
    Evidence,
    EvidenceOf,
    about,
    environment,
    name,
    read_signature,
    signer,
    try_keys,
)
from webhooks.notifications import Notification
from webhooks.signatures import signing_string

#: A JSON webhook carries one item, a SOAP one up to six (psp-webhooks.md section 1).
ITEMS_MAX = 6

#: Far over the longest published signed body, of 1778 bytes: a try reads all of it for each key.
BODY_BYTES_MAX = 16_384

_BODY = "the body"


def diagnose_items(
    body: bytes,
    *,
    header_signature: str | None,
    is_basic_wrong: bool = False,
    evidence_of: EvidenceOf,
) -> list[Diagnosis]:
    """Diagnose a standard webhook, whose items are signed.

    Args:
        body: As it came; nothing is assumed of it.
        header_signature: Of the header ``HmacSignature``, which has no place here.
        is_basic_wrong: The request's Basic credentials were missing or wrong.
        evidence_of: Looks up what we know that bears on an item's claim.

    Returns:
        A diagnosis for each item, or one for a body that can't be read.
    """
    if len(body) > BODY_BYTES_MAX:
        return [_too_large(f"The body has more than {BODY_BYTES_MAX} bytes.")]
    try:
        items = notifications.parse(body)
    except MalformedNotification as error:
        return [_diagnose_unreadable(body, error, header_signature, evidence_of)]
    diagnoses = []
    for position, item in enumerate(items[:ITEMS_MAX]):
        claim = claim_of_item(item)
        evidence = evidence_of(claim)
        findings = [
            *_circumstances(evidence, is_basic_wrong=is_basic_wrong),
            *_explain_item(item, body, header_signature, evidence),
        ]
        diagnoses.append(
            Diagnosis(
                where=f"notificationItems[{position}]",
                claim=claim,
                findings=_or_unexplained(findings),
                signing_string=signing_string(item.signed_values).decode(),
            )
        )
    if len(items) > ITEMS_MAX:
        diagnoses.append(_too_large(f"Items after the first {ITEMS_MAX} are not diagnosed."))
    return diagnoses


def diagnose_body(
    body: bytes,
    *,
    header_signature: str | None,
    is_basic_wrong: bool = False,
    evidence_of: EvidenceOf,
) -> list[Diagnosis]:
    """Diagnose a webhook whose raw body is signed in a header; see ``diagnose_items``."""
    if len(body) > BODY_BYTES_MAX:
        return [_too_large(f"The body has more than {BODY_BYTES_MAX} bytes.")]
    content = read_json(body)
    # Whoever may send at all may sign a body: the key says which account it is of.
    evidence = evidence_of(Claim())
    findings = [
        *_circumstances(evidence, is_basic_wrong=is_basic_wrong),
        *_explain_header(body, content, header_signature, evidence),
    ]
    claim = claim_of_body(body, content)
    return [Diagnosis(where=_BODY, claim=claim, findings=_or_unexplained(findings))]


def _diagnose_unreadable(
    body: bytes,
    error: MalformedNotification,
    header_signature: str | None,
    evidence_of: EvidenceOf,
) -> Diagnosis:
    """Say what can't be read, unless the request belongs at the other route altogether."""
    content = read_json(body)
    claim = claim_of_first_item(content) or claim_of_body(body, content)
    misdirected = _in_the_header(body, header_signature, evidence_of(Claim()))
    malformed = _malformed(f"It can't be read: {error}{where_json_ends(body)}.")
    return Diagnosis(where=_BODY, claim=claim, findings=(*misdirected, malformed))


def _explain_item(
    item: Notification, body: bytes, header_signature: str | None, evidence: Evidence
) -> list[Finding]:
    given = read_signature(item.signature)
    if isinstance(given, Finding):
        return [*_in_the_header(body, header_signature, evidence), given]
    message = signing_string(item.signed_values)
    return (
        try_keys(message, given, evidence, is_live=item.is_live)
        or _misspelt(item, given, evidence)
        or _altered(item, given, evidence)
        or [
            *_in_the_header(body, header_signature, evidence),
            *_resembles(item, evidence),
            *environment(evidence.keys, is_live=item.is_live),
        ]
    )


def _explain_header(
    body: bytes, content: object, header_signature: str | None, evidence: Evidence
) -> list[Finding]:
    given = read_signature(header_signature)
    if isinstance(given, Finding):
        return [*_in_the_items(body), given]
    is_live = is_live_body(content)
    return (
        _unreadable_although_signed(body, given, evidence)
        or try_keys(body, given, evidence, is_live=is_live)
        or _reserialised(body, content, given, evidence, is_live=is_live)
        or _in_the_items(body)
        or environment(evidence.keys, is_live=is_live)
    )


def _unreadable_although_signed(body: bytes, given: bytes, evidence: Evidence) -> list[Finding]:
    """A body is read after its signature is verified, and may be refused even then."""
    signers = {key.merchant_account for key in evidence.live_keys if signer(body, given, [key])}
    if not signers:
        return []
    try:
        platform.parse(body, signers)
    except MalformedNotification as error:
        return [_malformed(f"It is signed, but {error}{where_json_ends(body)}.")]
    except InvalidSignature as error:
        sentence = f"It is signed, but {error}."
        return [Finding(code=FindingCode.OTHER_ACCOUNTS_KEY, sentence=sentence)]
    return []


def _misspelt(item: Notification, given: bytes, evidence: Evidence) -> list[Finding]:
    for faults, values in misspellings(item.signed_values):
        if key := signer(signing_string(values), given, evidence.keys):
            found = [Finding(code=fault, sentence=_FAULTS[fault]) for fault in faults]
            return [*found, *about(key, evidence, is_live=item.is_live)]
    return []


_FAULTS: Mapping[FindingCode, str] = {
    FindingCode.NULL_AS_TEXT: "A word such as `None` or `null` was signed for an absent value.",
    FindingCode.BOOLEAN_AS_PYTHON: "success was signed as `True` or `False`.",
    FindingCode.ESCAPED_SIGNING_STRING: "Backslashes and colons were escaped before signing.",
}


def _altered(item: Notification, given: bytes, evidence: Evidence) -> list[Finding]:
    """Find values that the signature does fit: those stored before, or likely ones."""
    for stored in evidence.stored:
        if signer(signing_string(stored.signed_values), given, evidence.keys):
            fields = ", ".join(differing_fields(item.signed_values, stored.signed_values))
            sentence = f"The signature is that of stored webhook {stored.guid}; altered: {fields}."
            return [Finding(code=FindingCode.ALTERED_FIELD, sentence=sentence)]
    for field, words, values in likely_originals(item.signed_values):
        if key := signer(signing_string(values), given, evidence.keys):
            sentence = f"The signature fits if {field} is {words}: it was altered after signing."
            return [
                Finding(code=FindingCode.ALTERED_FIELD, sentence=sentence),
                *about(key, evidence, is_live=item.is_live),
            ]
    return []


def _resembles(item: Notification, evidence: Evidence) -> list[Finding]:
    """Compare with what was stored of the same event, which proves nothing."""
    differences = [
        (differing_fields(item.signed_values, stored.signed_values), stored)
        for stored in evidence.stored
        if stored.event_code == item.event_code
    ]
    if not differences:
        return []
    fields, stored = min(differences, key=lambda one: len(one[0]))
    if fields:
        sentence = (
            f"Stored webhook {stored.guid} is of the same event; here differ: {', '.join(fields)}."
        )
        return [Finding(code=FindingCode.ALTERED_FIELD, sentence=sentence)]
    sentence = f"It equals stored webhook {stored.guid} in all that is signed, but the signature."
    return [Finding(code=FindingCode.ALTERED_SIGNATURE, sentence=sentence)]


def _in_the_header(body: bytes, header_signature: str | None, evidence: Evidence) -> list[Finding]:
    """Tell of a signature in the header, where the items should carry theirs."""
    given = read_signature(header_signature)
    if isinstance(given, Finding):
        return []
    key = signer(body, given, (*evidence.keys, *evidence.others))
    verdict = f"is the body's, by {name(key)}" if key else "is not the body's, by any known key"
    sentence = f"The request carries a signature in the header HmacSignature; it {verdict}."
    return [Finding(code=FindingCode.HEADER_SCHEME_ON_ITEM_ROUTE, sentence=sentence)]


def _in_the_items(body: bytes) -> list[Finding]:
    """Tell of a standard webhook, where the body should be signed as a whole."""
    try:
        items = notifications.parse(body)
    except MalformedNotification:
        return []
    are_signed = all(item.signature for item in items)
    verdict = "whose items carry signatures" if are_signed else "whose items are not all signed"
    sentence = f"The body is a standard webhook {verdict}."
    return [Finding(code=FindingCode.ITEM_SCHEME_ON_HEADER_ROUTE, sentence=sentence)]


def _reserialised(
    body: bytes, content: object, given: bytes, evidence: Evidence, *, is_live: bool
) -> list[Finding]:
    for how, variant in _reserialisations(body, content):
        if key := signer(variant, given, evidence.keys):
            sentence = f"The signature fits the same JSON {how}: it was rewritten after signing."
            return [
                Finding(code=FindingCode.BODY_RESERIALISED, sentence=sentence),
                *about(key, evidence, is_live=is_live),
            ]
    return []


def _reserialisations(body: bytes, content: object) -> Iterator[tuple[str, bytes]]:
    yield "with line feeds", body.replace(b"\r\n", b"\n")
    yield "with carriage returns", body.replace(b"\n", b"\r\n")
    yield "without white space around it", body.strip()
    yield "with a line feed at its end", body + b"\n"
    for layout, separators, indent in _LAYOUTS:
        for is_sorted, is_ascii in product((False, True), repeat=2):
            encoder = json.JSONEncoder(
                separators=separators, indent=indent, sort_keys=is_sorted, ensure_ascii=is_ascii
            )
            written = _written(content, encoder, bytes_max=2 * len(body))
            if written is not None:
                yield f"{layout}, with sorted keys" if is_sorted else layout, written


def _written(content: object, encoder: json.JSONEncoder, *, bytes_max: int) -> bytes | None:
    """Write JSON; None if it gets long, as hostile nesting does, or is too deep to be written."""
    pieces, length = [], 0
    try:
        for piece in encoder.iterencode(content):
            length += len(piece)
            if length > bytes_max:
                return None
            pieces.append(piece)
    except RecursionError:
        return None
    return "".join(pieces).encode("utf-8", "replace")


#: How common writers lay JSON out: without spaces, as Python does, and for people.
_LAYOUTS: tuple[tuple[str, tuple[str, str], int | None], ...] = (
    ("without spaces", (",", ":"), None),
    ("with spaces", (", ", ": "), None),
    ("indented by two", (",", ": "), 2),
)


def _circumstances(evidence: Evidence, *, is_basic_wrong: bool) -> list[Finding]:
    """Say what refuses a webhook before its signature is looked at."""
    if not evidence.is_registered:
        sentence = "The merchant account is not registered here."
        return [Finding(code=FindingCode.UNKNOWN_ACCOUNT, sentence=sentence)]
    found = []
    if is_basic_wrong:
        sentence = "The request's Basic credentials are missing, or not those of the account."
        found.append(Finding(code=FindingCode.WRONG_BASIC, sentence=sentence))
    if not evidence.live_keys:
        sentence = "The merchant account has no live HMAC key."
        found.append(Finding(code=FindingCode.NO_LIVE_KEY, sentence=sentence))
    return found


def _or_unexplained(findings: list[Finding]) -> tuple[Finding, ...]:
    if {finding.code for finding in findings} - {FindingCode.WRONG_BASIC}:
        return tuple(findings)
    sentence = "No known key makes this signature, of these values or of likely others."
    return (*findings, Finding(code=FindingCode.UNEXPLAINED, sentence=sentence))


def _malformed(sentence: str) -> Finding:
    return Finding(code=FindingCode.MALFORMED, sentence=sentence)


def _too_large(sentence: str) -> Diagnosis:
    finding = Finding(code=FindingCode.TOO_LARGE, sentence=sentence)
    return Diagnosis(where=_BODY, claim=Claim(), findings=(finding,))
