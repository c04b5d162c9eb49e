"""Every reason why a signature does not verify is found, on webhooks that were signed that way."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.keys import key_check_value
from tests.support.builders import (
    ACCOUNT,
    HMAC_KEY,
    NOW,
    OTHER_HMAC_KEY,
    a_webhook,
    an_item,
    signed,
    unsigned_webhook,
)
from tests.unit.test_signature_vectors import VECTORS, Vector
from webhooks.diagnosis.alterations import FIELDS
from webhooks.diagnosis.claims import Claim
from webhooks.diagnosis.diagnose import (
    BODY_BYTES_MAX,
    ITEMS_MAX,
    _written,
    diagnose_body,
    diagnose_items,
)
from webhooks.diagnosis.findings import NEXT_STEPS, Diagnosis, Finding, FindingCode
from webhooks.diagnosis.trials import Evidence, KnownKey, StoredItem
from webhooks.notifications import parse
from webhooks.signatures import sign, signing_string

C = FindingCode
THIRD_HMAC_KEY = bytes.fromhex("66" * 32)
EVENT = {
    "type": "recurring.token.created",
    "environment": "test",
    "eventId": "QBQQ9DLNRHHKGK38",
    "data": {"merchantAccount": ACCOUNT, "shopperReference": "Jörg", "score": 1.50},
}
EVENT_BODY = json.dumps(EVENT, indent=2).encode()


def a_key(
    secret: bytes = HMAC_KEY,
    *,
    merchant_account: str = ACCOUNT,
    expired_at: datetime | None = None,
    environments: frozenset[bool] = frozenset(),
) -> KnownKey:
    return KnownKey(
        merchant_account=merchant_account,
        check_value=key_check_value(secret),
        secret=secret,
        expired_at=expired_at,
        environments=environments,
    )


EXPIRED_KEY = a_key(OTHER_HMAC_KEY, expired_at=NOW)
STRANGERS_KEY = a_key(THIRD_HMAC_KEY, merchant_account="OtherECOM")


def evidence(
    *keys: KnownKey,
    others: tuple[KnownKey, ...] = (STRANGERS_KEY,),
    stored: tuple[StoredItem, ...] = (),
) -> Evidence:
    """What is known by default: one live key, one expired, one of another account."""
    return Evidence(keys=keys or (a_key(), EXPIRED_KEY), others=others, stored=stored)


def with_signature(item: Mapping[str, object], signature: object) -> dict[str, object]:
    return {**item, "additionalData": {"hmacSignature": signature}}


def signed_over(item: Mapping[str, object], text: str, key: bytes = HMAC_KEY) -> dict[str, object]:
    """An item whose signature is that of another text than the rule says."""
    return with_signature(item, sign(text.encode(), key))


def signed_values(item: Mapping[str, object]) -> tuple[str, ...]:
    [notification] = parse(unsigned_webhook(item))
    return notification.signed_values


def text_of(item: Mapping[str, object]) -> str:
    return signing_string(signed_values(item)).decode()


def stored_item(item: Mapping[str, object]) -> StoredItem:
    [notification] = parse(unsigned_webhook(item))
    return StoredItem(
        guid=notification.guid,
        event_code=notification.event_code,
        signed_values=notification.signed_values,
    )


def diagnosed(
    item: Mapping[str, object], known: Evidence | None = None, *, is_live: bool = False
) -> Diagnosis:
    envelope = json.loads(unsigned_webhook(item))
    envelope["live"] = "true" if is_live else "false"
    [diagnosis] = diagnose_items(
        json.dumps(envelope).encode(),
        header_signature=None,
        evidence_of=lambda _claim: known or evidence(),
    )
    return diagnosis


def found(
    item: Mapping[str, object], known: Evidence | None = None, *, is_live: bool = False
) -> list[FindingCode]:
    return [finding.code for finding in diagnosed(item, known, is_live=is_live).findings]


def diagnosed_body(body: bytes, signature: str | None, known: Evidence | None = None) -> Diagnosis:
    [diagnosis] = diagnose_body(
        body, header_signature=signature, evidence_of=lambda _claim: known or evidence()
    )
    return diagnosis


def found_in_body(
    body: bytes, signature: str | None, known: Evidence | None = None
) -> list[FindingCode]:
    return [finding.code for finding in diagnosed_body(body, signature, known).findings]


each_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)


def keys_of(vector: Vector, form: Callable[[bytes], bytes] = bytes) -> Evidence:
    return evidence(a_key(form(bytes.fromhex(vector.key))))


# Signatures over items


@each_vector
def test_a_published_signature_is_valid(vector: Vector) -> None:
    item = vector.notification.item

    assert diagnosed(item, keys_of(vector)).is_authentic


@each_vector
def test_a_published_key_that_was_used_as_text_is_named(vector: Vector) -> None:
    item = signed_over(vector.notification.item, vector.text, vector.key.encode())

    assert found(item, keys_of(vector)) == [C.KEY_AS_TEXT]


@pytest.mark.parametrize("digits", [HMAC_KEY.hex(), "ab" * 32, "AB" * 32])
def test_a_key_is_used_as_text_in_either_case(digits: str) -> None:
    item = signed_over(an_item(), text_of(an_item()), digits.encode())

    assert found(item, evidence(a_key(bytes.fromhex(digits)))) == [C.KEY_AS_TEXT]


@each_vector
def test_a_published_notification_with_escaped_values_is_told(vector: Vector) -> None:
    item = vector.notification.item
    values = [value.replace("\\", "\\\\").replace(":", "\\:") for value in signed_values(item)]
    escaped = signed_over(item, ":".join(values), bytes.fromhex(vector.key))

    told = found(escaped, keys_of(vector))

    is_changed = ":".join(values) != vector.text
    assert told == [C.ESCAPED_SIGNING_STRING if is_changed else C.VALID]


def test_a_valid_finding_names_the_key_by_its_check_value() -> None:
    [finding] = diagnosed(signed(an_item())).findings

    assert key_check_value(HMAC_KEY) in finding.sentence


@pytest.mark.parametrize("signature", [None, "", 7, [], "missing"])
def test_an_item_without_a_signature(signature: object) -> None:
    item = an_item() if signature == "missing" else with_signature(an_item(), signature)

    assert found(item) == [C.MISSING_SIGNATURE]


@pytest.mark.parametrize("signature", ["not Base64!", "ä" * 44, "=", "\ud800", HMAC_KEY.hex()[:-1]])
def test_a_signature_that_is_not_base64(signature: str) -> None:
    assert found(with_signature(an_item(), signature)) == [C.SIGNATURE_NOT_BASE64]


@pytest.mark.parametrize("length", [1, 31, 33, 48])
def test_a_signature_of_the_wrong_length(length: int) -> None:
    signature = base64.b64encode(bytes(length)).decode()

    [finding] = diagnosed(with_signature(an_item(), signature)).findings

    assert finding.code is C.SIGNATURE_WRONG_LENGTH
    assert str(length) in finding.sentence


def test_an_expired_key_is_named_with_its_end() -> None:
    [finding] = diagnosed(signed(an_item(), OTHER_HMAC_KEY)).findings

    assert finding.code is C.EXPIRED_KEY
    assert key_check_value(OTHER_HMAC_KEY) in finding.sentence
    assert "2026-11-20 09:00" in finding.sentence


def test_an_account_whose_keys_have_all_expired() -> None:
    item = signed(an_item(), OTHER_HMAC_KEY)

    assert found(item, evidence(EXPIRED_KEY)) == [C.NO_LIVE_KEY, C.EXPIRED_KEY]


def test_another_accounts_key_is_named_with_its_account() -> None:
    [finding] = diagnosed(signed(an_item(), THIRD_HMAC_KEY)).findings

    assert finding.code is C.OTHER_ACCOUNTS_KEY
    assert "OtherECOM" in finding.sentence


def test_an_account_that_is_not_registered() -> None:
    known = Evidence(is_registered=False, others=(STRANGERS_KEY,))

    assert found(an_item(), known) == [C.UNKNOWN_ACCOUNT, C.MISSING_SIGNATURE]
    assert found(signed(an_item(), THIRD_HMAC_KEY), known) == [
        C.UNKNOWN_ACCOUNT,
        C.OTHER_ACCOUNTS_KEY,
    ]


@pytest.mark.parametrize("word", ["None", "null", "undefined"])
def test_a_word_for_an_absent_value(word: str) -> None:
    values = [signed_values(an_item())[0], word, *signed_values(an_item())[2:]]

    assert found(signed_over(an_item(), ":".join(values))) == [C.NULL_AS_TEXT]


@pytest.mark.parametrize("places", [(1,), (3,), (1, 3)])
def test_a_word_for_one_absent_value_or_for_all(places: tuple[int, ...]) -> None:
    item = an_item(merchant_reference="")
    values = list(signed_values(item))
    for place in places:
        values[place] = "None"

    assert found(signed_over(item, ":".join(values))) == [C.NULL_AS_TEXT]


@pytest.mark.parametrize("success", [True, False])
def test_success_as_python_writes_it(success: bool) -> None:  # noqa: FBT001
    item = an_item(success=success)
    text = ":".join([*signed_values(item)[:-1], str(success)])

    assert found(signed_over(item, text)) == [C.BOOLEAN_AS_PYTHON]


def test_several_faults_of_one_program_are_all_told() -> None:
    item = an_item(merchant_reference="auth:123")
    values = list(signed_values(item))
    values[1], values[3], values[-1] = "None", r"auth\:123", "True"
    faults = [C.NULL_AS_TEXT, C.BOOLEAN_AS_PYTHON, C.ESCAPED_SIGNING_STRING]

    assert found(signed_over(item, ":".join(values))) == faults
    assert found(signed_over(item, ":".join(values), OTHER_HMAC_KEY)) == [*faults, C.EXPIRED_KEY]


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "pspReference"])
def test_a_field_that_was_altered_after_storing_is_named(field: str) -> None:
    original = an_item(original_reference="8816178914079730")
    tampered = {**signed(original), **altered(original, field)}

    [finding] = diagnosed(tampered, evidence(stored=(stored_item(original),))).findings

    assert finding.code is C.ALTERED_FIELD
    assert str(stored_item(original).guid) in finding.sentence
    assert f"altered: {field}." in finding.sentence


def altered(item: Mapping[str, object], field: str) -> dict[str, object]:
    """One signed field with another value."""
    amount = item["amount"]
    assert isinstance(amount, dict)
    match field:
        case "amount.value":
            return {"amount": {**amount, "value": 99}}
        case "amount.currency":
            return {"amount": {**amount, "currency": "USD"}}
        case "success":
            return {"success": "false"}
        case _:
            return {field: "ALTERED"}


def test_two_altered_fields_are_both_named() -> None:
    original = an_item()
    tampered = {**signed(original), "merchantReference": "X", "success": "false"}

    [finding] = diagnosed(tampered, evidence(stored=(stored_item(original),))).findings

    assert "altered: merchantReference, success." in finding.sentence


def test_the_same_event_with_another_signature_is_compared() -> None:
    forged = with_signature(an_item(amount_minor=99), sign(b"forged", bytes(32)))

    [finding] = diagnosed(forged, evidence(stored=(stored_item(an_item()),))).findings

    assert finding.code is C.ALTERED_FIELD
    assert "here differ: amount.value" in finding.sentence


def test_an_equal_item_with_another_signature_is_told() -> None:
    forged = with_signature(an_item(), sign(b"forged", bytes(32)))

    assert found(forged, evidence(stored=(stored_item(an_item()),))) == [C.ALTERED_SIGNATURE]


@pytest.mark.parametrize(
    ("field", "signed_as", "sent_as"),
    [
        ("originalReference", an_item(), an_item(original_reference="8816178914079730")),
        ("merchantReference", an_item(merchant_reference=""), an_item()),
        ("merchantReference", an_item(), an_item(merchant_reference=" ORDER-1001 ")),
        ("amount.value", an_item(amount_minor=125), an_item()),
        ("amount.value", an_item(amount_minor=1250000), an_item()),
        ("success", an_item(success=False), an_item()),
    ],
)
def test_one_likely_alteration_is_found_although_nothing_was_stored(
    field: str, signed_as: Mapping[str, object], sent_as: Mapping[str, object]
) -> None:
    item = signed_over(sent_as, text_of(signed_as))

    [finding] = diagnosed(item).findings

    assert finding.code is C.ALTERED_FIELD
    assert field in finding.sentence


def test_an_amount_that_was_signed_with_a_decimal_point() -> None:
    text = text_of(an_item()).replace(":12500:", ":125.00:")

    assert found(signed_over(an_item(), text)) == [C.ALTERED_FIELD]


@pytest.mark.parametrize(
    ("is_live", "code"), [(True, C.TEST_KEY_ON_LIVE), (False, C.LIVE_KEY_ON_TEST)]
)
def test_keys_of_the_other_environment(is_live: bool, code: FindingCode) -> None:  # noqa: FBT001
    known = evidence(a_key(environments=frozenset({not is_live})))
    item = signed(an_item(), bytes(32))

    assert found(item, known, is_live=is_live) == [code]
    assert found(item, known, is_live=not is_live) == [C.UNEXPLAINED]


def test_another_accounts_key_of_the_other_environment() -> None:
    others = (replace(STRANGERS_KEY, environments=frozenset({False})),)
    item = signed(an_item(), THIRD_HMAC_KEY)

    told = found(item, evidence(others=others), is_live=True)

    assert told == [C.OTHER_ACCOUNTS_KEY, C.TEST_KEY_ON_LIVE]


def test_keys_of_both_environments_explain_nothing() -> None:
    known = evidence(a_key(environments=frozenset({False, True})))

    assert found(signed(an_item(), bytes(32)), known) == [C.UNEXPLAINED]


def test_a_signature_of_a_key_that_nobody_has_is_unexplained() -> None:
    assert found(signed(an_item(), bytes(32))) == [C.UNEXPLAINED]


@pytest.mark.parametrize(("key", "more"), [(HMAC_KEY, [C.VALID]), (bytes(32), [C.UNEXPLAINED])])
def test_wrong_basic_credentials_are_told_beside_the_signature(
    key: bytes, more: list[FindingCode]
) -> None:
    [diagnosis] = diagnose_items(
        a_webhook(key=key),
        header_signature=None,
        is_basic_wrong=True,
        evidence_of=lambda _claim: evidence(),
    )

    assert [finding.code for finding in diagnosis.findings] == [C.WRONG_BASIC, *more]
    assert not diagnosis.is_authentic


def test_every_item_is_diagnosed_by_itself() -> None:
    body = unsigned_webhook(signed(an_item()), an_item("CAPTURE"))

    first, second = diagnose_items(
        body, header_signature=None, evidence_of=lambda _claim: evidence()
    )

    assert first.is_authentic
    assert second.where == "notificationItems[1]"
    assert [finding.code for finding in second.findings] == [C.MISSING_SIGNATURE]


def test_an_items_claim_decides_what_is_looked_up() -> None:
    claims = []

    def look_up(claim: Claim) -> Evidence:
        claims.append(claim)
        return evidence()

    diagnose_items(a_webhook(), header_signature=None, evidence_of=look_up)

    [claim] = claims
    assert (claim.merchant_account, claim.event) == (ACCOUNT, "AUTHORISATION 8816178914079738")


# Bodies that can't be read


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"live": "false",\n "notificationItems": [}', "line 2, column 24"),
        (b'{"live": "\xff"}', "byte 10 is not UTF-8"),
        (b"", "line 1, column 1"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"notificationItems": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"[]", "not a JSON object"),
        (b"{}", "notificationItems"),
        (unsigned_webhook({**an_item(), "success": "maybe"}), "success"),
        (unsigned_webhook(an_item(), {**an_item(), "eventCode": ""}), "notificationItems[1]"),
        (unsigned_webhook({**an_item(), "merchantReference": "\ud800"}), "not Unicode"),
        (unsigned_webhook({**an_item(), "merchantReference": "\x00"}), "NUL"),
    ],
)
def test_a_body_that_can_not_be_read_is_told_with_the_place(body: bytes, words: str) -> None:
    [diagnosis] = diagnose_items(body, header_signature=None, evidence_of=lambda _claim: evidence())

    [finding] = diagnosis.findings
    assert finding.code is C.MALFORMED
    assert words in finding.sentence


def test_a_body_or_a_list_that_is_too_large_is_not_tried() -> None:
    long_body = b" " * (BODY_BYTES_MAX + 1)
    long_list = a_webhook(*[an_item(psp_reference=f"P{n}") for n in range(ITEMS_MAX + 1)])

    def by(body: bytes) -> list[list[FindingCode]]:
        diagnoses = diagnose_items(
            body, header_signature=None, evidence_of=lambda _claim: evidence()
        )
        return [[finding.code for finding in one.findings] for one in diagnoses]

    assert by(long_body) == [[C.TOO_LARGE]]
    assert by(long_list) == [*[[C.VALID]] * ITEMS_MAX, [C.TOO_LARGE]]
    assert found_in_body(long_body, None) == [C.TOO_LARGE]


# Signatures over bodies


def test_a_signed_body_is_valid() -> None:
    assert diagnosed_body(EVENT_BODY, sign(EVENT_BODY, HMAC_KEY)).is_authentic


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        (None, C.MISSING_SIGNATURE),
        ("not Base64!", C.SIGNATURE_NOT_BASE64),
        ("AAAA", C.SIGNATURE_WRONG_LENGTH),
        (sign(EVENT_BODY, OTHER_HMAC_KEY), C.EXPIRED_KEY),
        (sign(EVENT_BODY, HMAC_KEY.hex().encode()), C.KEY_AS_TEXT),
        (sign(EVENT_BODY, bytes(32)), C.UNEXPLAINED),
    ],
)
def test_a_body_whose_signature_does_not_verify(signature: str | None, code: FindingCode) -> None:
    assert found_in_body(EVENT_BODY, signature) == [code]


@pytest.mark.parametrize(
    "signed_body",
    [
        json.dumps(EVENT, separators=(",", ":")).encode(),
        json.dumps(EVENT, separators=(",", ":"), ensure_ascii=False).encode(),
        json.dumps(EVENT, separators=(",", ":"), sort_keys=True).encode(),
        json.dumps(EVENT).encode(),
        json.dumps(EVENT, sort_keys=True).encode(),
        EVENT_BODY + b"\n",
        EVENT_BODY.replace(b"\n", b"\r\n"),
    ],
)
def test_a_body_that_was_rewritten_on_its_way(signed_body: bytes) -> None:
    assert found_in_body(EVENT_BODY, sign(signed_body, HMAC_KEY)) == [C.BODY_RESERIALISED]


def test_a_nested_body_that_can_be_read_and_not_written_is_no_trouble() -> None:
    body = b'{"type":"x","data":' + b"[" * 900 + b"]" * 900 + b"}"

    assert found_in_body(body, sign(b"other", HMAC_KEY)) == [C.UNEXPLAINED]


@pytest.mark.parametrize("signature", [None, sign(b"other", HMAC_KEY)])
def test_a_standard_webhook_at_the_route_of_signed_bodies(signature: str | None) -> None:
    assert found_in_body(a_webhook(), signature)[0] is C.ITEM_SCHEME_ON_HEADER_ROUTE


@pytest.mark.parametrize("body", [unsigned_webhook(an_item()), EVENT_BODY])
def test_a_signed_body_at_the_route_of_signed_items(body: bytes) -> None:
    [diagnosis] = diagnose_items(
        body, header_signature=sign(body, HMAC_KEY), evidence_of=lambda _claim: evidence()
    )

    first = diagnosis.findings[0]
    assert first.code is C.HEADER_SCHEME_ON_ITEM_ROUTE
    assert f"it is the body's, by key {key_check_value(HMAC_KEY)}" in first.sentence


def test_a_header_beside_a_valid_item_signature_is_no_finding() -> None:
    [diagnosis] = diagnose_items(
        a_webhook(), header_signature=sign(b"", HMAC_KEY), evidence_of=lambda _claim: evidence()
    )

    assert diagnosis.is_authentic


@pytest.mark.parametrize("body", [b"not JSON", b"[]", b"{}", b'{"type": 7}'])
def test_a_signed_body_that_can_not_be_read(body: bytes) -> None:
    assert found_in_body(body, sign(body, HMAC_KEY)) == [C.MALFORMED]


def test_a_signed_body_with_items_of_another_account() -> None:
    body = unsigned_webhook(an_item(merchant_account="OtherECOM"))

    assert found_in_body(body, sign(body, HMAC_KEY)) == [C.OTHER_ACCOUNTS_KEY]


# All findings


def test_every_finding_has_a_next_step() -> None:
    assert set(NEXT_STEPS) == set(FindingCode)
    assert all(NEXT_STEPS.values())


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
plain_texts = st.from_regex(r"[A-Za-z0-9_.\-]{1,16}", fullmatch=True)
items = st.builds(
    an_item,
    plain_texts,
    success=st.booleans(),
    psp_reference=plain_texts,
    original_reference=st.none() | plain_texts,
    merchant_reference=texts,
    amount_minor=st.integers(-(2**63), 2**63),
    currency=st.sampled_from(["EUR", "USD", ""]),
)


@given(items, items)
@settings(max_examples=100, deadline=None)
def test_a_tampered_item_is_never_valid(
    original: dict[str, object], tampered: dict[str, object]
) -> None:
    signature = signed(original)["additionalData"]
    is_same = signing_string(signed_values(original)) == signing_string(signed_values(tampered))

    told = found(
        {**tampered, "additionalData": signature}, evidence(stored=(stored_item(original),))
    )

    assert (told == [C.VALID]) == is_same
    assert (C.VALID in told) == is_same


signing_keys = st.sampled_from(
    [HMAC_KEY, OTHER_HMAC_KEY, THIRD_HMAC_KEY, HMAC_KEY.hex().encode(), bytes(32)]
)


@given(items, items, signing_keys)
@settings(max_examples=50, deadline=None)
def test_no_finding_holds_a_key_or_a_signature(
    original: dict[str, object], tampered: dict[str, object], key: bytes
) -> None:
    forged = {**tampered, "additionalData": signed(original, key)["additionalData"]}
    known = evidence(stored=(stored_item(original),))
    body = unsigned_webhook(forged)

    diagnoses = [
        diagnosed(forged, known),
        diagnosed_body(body, sign(body, key), known),
        diagnosed_body(body, sign(unsigned_webhook(original), key), known),
    ]

    said = json.dumps([one.as_json() for one in diagnoses]) + repr(diagnoses) + repr(known)
    secrets = [HMAC_KEY, OTHER_HMAC_KEY, THIRD_HMAC_KEY]
    messages = [signing_string(signed_values(one)) for one in (original, tampered)] + [body]
    digests = [base64.b64decode(sign(message, one)) for message in messages for one in secrets]
    assert not [secret for secret in (*secrets, *digests) if is_in(said, secret)]


def is_in(text: str, secret: bytes) -> bool:
    encodings = [
        secret.hex(),
        secret.hex().upper(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
        secret.decode("latin-1"),
    ]
    return any(one in text for one in encodings)


def test_what_is_kept_of_a_finding_is_its_code_its_sentence_and_the_next_step() -> None:
    finding = Finding(code=C.VALID, sentence="It is signed.")

    assert finding.as_json() == {
        "code": "valid",
        "sentence": "It is signed.",
        "next_step": "Nothing.",
    }


def test_hostile_nesting_is_not_written_out() -> None:
    body = b"[" * 500 + b"1," * 5000 + b"1" + b"]" * 500
    content = json.loads(body)
    for_people = json.JSONEncoder(indent=2)

    assert _written(content, for_people, bytes_max=2 * len(body)) is None
    assert _written([1], for_people, bytes_max=100) == b"[\n  1\n]"
