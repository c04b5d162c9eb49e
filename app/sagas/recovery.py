"""What an operator's word does to a saga's step records. Pure: no I/O and no clock of its own.

A person may know more than we do, and may be wrong. So that no word of theirs moves money twice:

- What may have taken effect, as far as is on record, is asked again under the key that it was asked
  under: the party acts once under it, whatever it did the first time, and a person may say
  ``resume`` as often as they like. A capture is always asked so: it comes to a person only while
  its outcome is not known.
- A new decision, under a new key, is made where the old key can only bring back an old "no": the
  party refused, or told how the request ended. A cancellation that never got an answer is decided
  anew as well, since it moves no money and releases once, however often it is asked for.
- The evidence comes first in any case: a webhook that arrived while the payment waited for its
  person is found before any call is made.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from app.domain.flow import FlowState
from app.domain.payment import Payment
from app.domain.saga import Direction, StepRecord, StepStatus
from app.sagas.compensation import anew, is_told_of, undos_needed
from app.sagas.definition import Definitions, Records, Saga, Undo

#: Nobody has said that they took the request.
_UNANSWERED = frozenset({StepStatus.ASKED, StepStatus.PUT_OFF, StepStatus.SENT})

#: What leaves the same behind when it is done twice.
_HARMLESS_TWICE = frozenset({"cancel"})


class Recovery:
    """Says which step records an operator's action changes, by the saga's own definition."""

    def __init__(self, definitions: Definitions) -> None:
        """Decide by ``definitions``, each saga by the version that it began under."""
        self._definitions = definitions

    def capture_again(self, version: int, records: Records, *, now: datetime) -> list[StepRecord]:
        """Let the capture be asked again: same key, patience anew."""
        stage = self._definitions.version(version).stage(FlowState.CAPTURE)
        asked = [records.get((step.name, Direction.ACT)) for step in stage.steps]
        return [_same_again(record, now) for record in asked if record and record.is_open]

    def undo_again(
        self, version: int, payment: Payment, records: Records, *, now: datetime
    ) -> list[StepRecord]:
        """Let everything that is left to undo, and was asked before, be asked again at once."""
        saga = self._definitions.version(version)
        return [
            anew(record)
            if _needs_new_key(undo, payment, record, records)
            else _same_again(record, now)
            for step, undo in undos_needed(saga, payment, records)
            if (record := records.get((step.name, Direction.UNDO)))
            and record.status is not StepStatus.REGISTERED
        ]

    def undo_skipped(
        self,
        version: int,
        payment: Payment,
        records: Records,
        *,
        step: str | None,
        note: Mapping[str, object],
        now: datetime,
    ) -> list[StepRecord]:
        """Count the undo of a step as done, and with it those that are about the same thing.

        Money that a person has taken care of is not asked for in the name of another step.

        Args:
            version: Of the saga's definition.
            payment: As it stands.
            records: The saga's.
            step: The step whose undo is skipped; the next to be undone if None.
            note: Kept with the records: who skipped, and why.
            now: Aware UTC.
        """
        saga = self._definitions.version(version)
        if step is None:
            step = next((one.name for one, _undo in undos_needed(saga, payment, records)), None)
        return [
            _done(records.get((name, Direction.UNDO)), name, note, now)
            for name in _about_the_same(saga, step)
        ]


def _about_the_same(saga: Saga, step: str | None) -> list[str]:
    return [
        one.name for one in saga.steps if one.undo and (one.name == step or step in one.undo.after)
    ]


def _needs_new_key(undo: Undo, payment: Payment, record: StepRecord, records: Records) -> bool:
    request = undo.request(payment, records)
    is_over = (
        record.status is StepStatus.REFUSED
        or undo.is_refused(payment, record)
        or is_told_of(record, payment)
    )
    is_another = record.request not in {None, request.subject}
    is_harmless = request.operation in _HARMLESS_TWICE and record.status in _UNANSWERED
    return is_over or is_another or is_harmless


def _same_again(record: StepRecord, now: datetime) -> StepRecord:
    """Forget the waits, not that there were calls: a later "no" says nothing of what they did."""
    return replace(record, status=StepStatus.ASKED, attempts=1, started_at=now, due=None)


def _done(
    record: StepRecord | None, step: str, note: Mapping[str, object], now: datetime
) -> StepRecord:
    if record is None:
        record = StepRecord(
            step=step,
            direction=Direction.UNDO,
            status=StepStatus.REGISTERED,
            round=1,
            attempts=0,
            request=None,
            response={},
            started_at=now,
            asked_at=now,
        )
    return replace(record, status=StepStatus.DONE, response={**record.response, **note}, due=None)
