"""Plans a sweep, and carries it out.

The worker's timers move what they can by themselves. The sweep is the second line: it works when no
worker does, it can be asked what it would do, and it can look from a later time (``as_of``) at what
would be stuck by then. It keeps no place and remembers nothing: the next sweep finds what is left.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from app.clock import Clock
from app.persistence.batch import SqlBatch
from app.sagas.definition import Definitions
from app.sagas.runner import SagaRunner
from app.services.ports import NewId
from reconciliation.sweep.cases import open_case
from reconciliation.sweep.desk import find_never_heard_of, find_reviews
from reconciliation.sweep.findings import Action, Finding, Look, oldest_first
from reconciliation.sweep.money_left import find_money_left
from reconciliation.sweep.refunds import find_come_back, find_unconfirmed, note_unconfirmed
from reconciliation.sweep.reports import find_missing
from reconciliation.sweep.sagas import (
    RULES_OF_SAGAS,
    find_stuck,
    renew_patience,
)
from reconciliation.sweep.webhooks import (
    StoredWebhooks,
    find_dead,
    find_orphans,
    find_unprocessed,
    is_still_orphan,
)

#: Findings of one kind at the most, unless it is told otherwise.
LIMIT = 10_000

#: Webhooks that are applied together.
WEBHOOKS_AT_ONCE = 100

_VERSION = text("SELECT version FROM payments WHERE payment_id = :payment_id")


class Sweep:
    """One sweep. Deterministic: the same rows and the same time give the same plan."""

    def __init__(
        self,
        *,
        definitions: Definitions,
        batch: Callable[[], SqlBatch],
        runner: SagaRunner,
        webhooks: StoredWebhooks,
        clock: Clock,
        new_id: NewId,
        orphan_grace: timedelta,
    ) -> None:
        """Wire the sweep.

        Args:
            definitions: Those that decide.
            batch: Opens a transaction.
            runner: Carries out what was decided about payments.
            webhooks: The inbox.
            clock: Dates whatever is written, and tells which leases are over; ``as_of`` does
                neither.
            new_id: Makes the ids of cases.
            orphan_grace: How long a webhook waits for its payment before it counts as external.
        """
        self._definitions = definitions
        self._batch = batch
        self._runner = runner
        self._webhooks = webhooks
        self._clock = clock
        self._new_id = new_id
        self._orphan_grace = orphan_grace

    def plan(
        self, *, as_of: datetime, merchant_account: str | None = None, limit: int = LIMIT
    ) -> list[Finding]:
        """Return what is stuck at ``as_of``, oldest first. Changes nothing.

        Args:
            as_of: Aware UTC. A payment whose patience is not used up by then is not stuck.
            merchant_account: Only this account's; every account's if None.
            limit: Findings of one kind at the most.
        """
        look = Look(as_of=as_of, merchant_account=merchant_account, limit=limit)
        with self._batch() as batch:
            connection = batch.connection
            return oldest_first(
                [
                    *find_unprocessed(connection, look),
                    *find_dead(connection, look),
                    *find_orphans(
                        connection, look, grace=self._orphan_grace, orphan=self._webhooks.orphan
                    ),
                    *find_stuck(batch, look, self._definitions),
                    *find_never_heard_of(connection, look),
                    *find_reviews(connection, look),
                    *find_money_left(connection, look),
                    *find_unconfirmed(connection, look),
                    *find_come_back(connection, look),
                    *find_missing(connection, look),
                ]
            )

    def carry_out(self, findings: Sequence[Finding], *, as_of: datetime) -> int:
        """Do what was planned, and nothing else, as seen from ``as_of``.

        The first decision on each payment is made as of then; what follows from it, and every time
        that is written, is of now. Safe beside running workers and other sweeps: each payment is
        claimed, and one that has moved since is left to whoever moved it.

        Returns:
            How many payments met an outside service that was away; they will be due again.
        """
        self._apply(findings)
        away = 0
        for finding in findings:
            if finding.case is not None:
                self._open_case(finding)
            elif finding.rule in RULES_OF_SAGAS and finding.action is not Action.PAGE:
                away += self._run(finding, as_of)
            elif finding.action is Action.CHECK:
                self._note(finding, as_of)
        return away

    def _apply(self, findings: Sequence[Finding]) -> None:
        """Apply what is to be applied, and look again at orphans before they become cases."""
        guids = [
            finding.guid
            for finding in findings
            if finding.guid and (finding.action is Action.PROCESS or finding.case)
        ]
        for start in range(0, len(guids), WEBHOOKS_AT_ONCE):
            self._webhooks.apply(guids[start : start + WEBHOOKS_AT_ONCE])

    def _open_case(self, finding: Finding) -> None:
        if finding.case is None:
            return
        with self._batch() as batch:
            if _is_still_so(batch.connection, finding):
                now = self._clock.now()
                open_case(batch.connection, finding.case, break_id=self._new_id(), now=now)
                batch.commit()

    def _run(self, finding: Finding, as_of: datetime) -> bool:
        """Run a payment's saga; return True if an outside service was away."""
        with self._batch() as batch:
            if not _stands(batch.connection, finding):
                return False
            if finding.rule == "S9" and finding.action is Action.RETRY:
                renew_patience(batch, finding, as_of=as_of, now=self._clock.now())
                batch.commit()
        return self._runner.run(finding.payment_id, as_of=as_of).is_party_away

    def _note(self, finding: Finding, as_of: datetime) -> None:
        with self._batch() as batch:
            note_unconfirmed(batch, finding, as_of=as_of, now=self._clock.now())
            batch.commit()


def _is_still_so(connection: Connection, finding: Finding) -> bool:
    """Tell whether a case is still one, now that stored webhooks are applied."""
    if finding.guid is not None:
        return is_still_orphan(connection, finding.guid)
    return finding.version is None or _stands(connection, finding)


def _stands(connection: Connection, finding: Finding) -> bool:
    """Tell whether a payment is as it was found."""
    wanted = {"payment_id": finding.payment_id}
    version: int | None = connection.execute(_VERSION, wanted).scalar_one_or_none()
    return version == finding.version
