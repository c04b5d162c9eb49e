"""What was refused, kept with its diagnosis and without trust: any stranger makes us write here.

So a process keeps a bounded number a minute, and fewer from one address; the body is cut; the
newest rows replace the oldest. What is over the budget costs no query and is not diagnosed.
"""

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from time import monotonic

from sqlalchemy import Engine, delete, insert, null, text
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock
from app.domain.card_numbers import find_card_numbers, mask_card_numbers
from app.errors import WebhookRefused, WrongBasicCredentials
from app.persistence.tables import Scheme, webhook_refusals
from webhooks.diagnosis.claims import Claim
from webhooks.diagnosis.evidence import EvidenceRoom
from webhooks.diagnosis.findings import Diagnosis
from webhooks.refusal_budget import RefusalBudget

BODY_BYTES_MAX = 8192

ROWS_MAX = 10_000

#: Nineteen digits, each as an escape, and what may stand between them.
_NUMBER_BYTES_MAX = 256

#: Every so many rows the oldest go, so that most insertions delete nothing.
TRIM_EVERY = 100

#: Kept in place of a body that hides a card number behind escapes or odd digits.
WITHHELD = b"[withheld: it holds a card number]"

#: References have as many digits as card numbers, and one in ten passes their check.
_REFERENCES = re.compile(r'"(?:pspReference|originalReference|merchantReference)"\s*:\s*"[^"\\]*"')
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")

_log = logging.getLogger(__name__)


class Refusals:
    """Keeps refusals. Thread-safe."""

    def __init__(self, engine: Engine, clock: Clock, evidence: EvidenceRoom) -> None:
        """Write through ``engine``; diagnose by ``evidence``."""
        self._engine = engine
        self._clock = clock
        self._evidence = evidence
        self._budget = RefusalBudget()

    def keep(
        self,
        refusal: WebhookRefused,
        *,
        body: bytes,
        scheme: Scheme,
        header_signature: str | None,
        remote_address: str | None,
    ) -> None:
        """Keep a refusal in a transaction of its own, within the budget.

        It never raises: the answer to the request does not depend on what is kept of it.
        """
        if not self._budget.grant(remote_address, at_seconds=monotonic()):
            return
        diagnoses = self._diagnose(refusal, body, scheme, header_signature)
        claim = _first_refused(diagnoses)
        values = {
            "code": refusal.code,
            "detail": str(refusal),
            "scheme": scheme,
            "claimed_account": mask_card_numbers(claim.merchant_account or "") or None,
            "claimed_guid": claim.guid,
            "claimed_event": _event(claim),
            "diagnosis": [one.as_json() for one in diagnoses] or null(),
            "remote_address": remote_address,
            "body": without_card_numbers(body),
            "received_at": self._clock.now(),
        }
        try:
            self._write(values)
        except SQLAlchemyError:
            _log.warning("a refused webhook could not be kept", extra={"code": refusal.code})

    def _diagnose(
        self, refusal: WebhookRefused, body: bytes, scheme: Scheme, header_signature: str | None
    ) -> list[Diagnosis]:
        try:
            return self._evidence.diagnose(
                body,
                scheme=scheme,
                header_signature=header_signature,
                is_basic_wrong=isinstance(refusal, WrongBasicCredentials),
            )
        except Exception as error:  # noqa: BLE001  # whatever a stranger sent, the answer stands
            _log.warning(
                "a refused webhook could not be diagnosed",
                extra={"code": refusal.code, "error": type(error).__name__},
            )
            return []

    def _write(self, values: Mapping[str, object]) -> None:
        with self._engine.begin() as connection:
            kept = webhook_refusals.c.refusal_id
            number = connection.execute(
                insert(webhook_refusals).values(values).returning(kept)
            ).scalar_one()
            if number % TRIM_EVERY == 0:
                connection.execute(delete(webhook_refusals).where(kept <= number - ROWS_MAX))


def without_card_numbers(body: bytes) -> bytes:
    """Return the part of a body that is kept, with card numbers masked outside of references.

    Nothing is assumed of the body. What hides a number behind escapes is not kept at all.
    """
    # One byte, one character: what is no UTF-8 is kept as it came, and nothing changes its place.
    # A number that the cut would halve is looked at as a whole.
    readable = body[: BODY_BYTES_MAX + _NUMBER_BYTES_MAX].decode("latin-1")
    masked = _mask_outside_references(readable).encode("latin-1")
    return WITHHELD if _hides_card_number(masked) else masked[:BODY_BYTES_MAX]


def _mask_outside_references(text: str) -> str:
    masked = ""
    end = 0
    for reference in _REFERENCES.finditer(text):
        masked += mask_card_numbers(text[end : reference.start()]) + reference.group()
        end = reference.end()
    return masked + mask_card_numbers(text[end:])


def _hides_card_number(masked: bytes) -> bool:
    text = _REFERENCES.sub("reference", masked.decode("utf-8", "replace"))
    unescaped = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
    plain = unicodedata.normalize("NFKC", unescaped)
    return next(find_card_numbers(plain), None) is not None


def _first_refused(diagnoses: Sequence[Diagnosis]) -> Claim:
    refused = (one.claim for one in diagnoses if not one.is_authentic)
    return next(refused, diagnoses[0].claim if diagnoses else Claim())


def _event(claim: Claim) -> str | None:
    return f"{mask_card_numbers(claim.event_code)} {claim.psp_reference}".strip() or None


#: What `countersign webhook refusals` shows, newest first.
LIST_REFUSALS_SQL = text(
    """
    SELECT refusal_id, received_at, code, claimed_event, claimed_account, remote_address,
           jsonb_path_query_first(
               diagnosis, '$[*].findings[*] ? (@.code != "valid")') ->> 'code' AS finding
      FROM webhook_refusals
     ORDER BY refusal_id DESC
     LIMIT :limit
    """
)

#: What `countersign webhook explain --refusal` reads.
SHOW_REFUSAL_SQL = text(
    """
    SELECT received_at, code, detail, scheme, claimed_account, claimed_event, claimed_guid,
           remote_address, diagnosis, body
      FROM webhook_refusals WHERE refusal_id = :refusal_id
    """
)
