"""The sagas of a batch: claimed, fenced and moved, each kind of write as one statement."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, RowMapping, func, select, text, update

from app.domain.payment import Payment
from app.domain.saga import Claim, Direction, SagaStatus, StepRecord
from app.persistence.recordset import as_rows
from app.persistence.sagas import SqlSagas, follow_payments, put_steps, record_of, wake_sagas
from app.persistence.tables import payments, saga_instances, saga_steps
from app.services.ports import NewId

Records = dict[tuple[str, Direction], StepRecord]


class BatchedSagas(SqlSagas):
    """What is written waits until the batch is, and carries the batch's time."""

    def __init__(
        self, connection: Connection, *, saga_type: str, definition_version: int, new_id: NewId
    ) -> None:
        """Move none yet."""
        super().__init__(
            connection, saga_type=saga_type, definition_version=definition_version, new_id=new_id
        )
        self._followed: dict[UUID, Payment] = {}
        self._woken: set[UUID] = set()
        self._steps: dict[tuple[UUID, str, Direction], StepRecord] = {}
        self._moved: dict[UUID, Mapping[str, object]] = {}

    def claim_due(
        self,
        versions: Collection[int],
        *,
        limit: int,
        as_of: datetime,
        now: datetime,
        lease_until: datetime,
        owner: str,
        payment_id: UUID | None = None,
    ) -> list[tuple[Claim, RowMapping]]:
        """Claim the sagas that have been due longest, and lock their payments.

        Both rows are locked by one statement that skips locked rows, the payment's first, so that
        it never waits.

        Args:
            versions: Of the definitions that the claimer can run.
            limit: Sagas at the most.
            as_of: What is due by then is due.
            now: A lease that is not over by now stands.
            lease_until: How long the claim is to last.
            owner: Names the claimer.
            payment_id: Only this payment's saga; any if None.

        Returns:
            The claims, each with its payment's row.
        """
        saga = saga_instances.c
        query = (
            select(saga.saga_id, payments)
            .join_from(payments, saga_instances, saga.payment_id == payments.c.payment_id)
            .where(
                saga.due <= as_of,
                (saga.lease_until.is_(None)) | (saga.lease_until <= now),
                saga.saga_type == self._type,
                saga.definition_version.in_(versions),
            )
            .order_by(saga.due)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if payment_id is not None:
            query = query.where(saga.payment_id == payment_id)
        rows = {row["saga_id"]: row for row in self._connection.execute(query).mappings()}
        if not rows:
            return []
        claimed = self._connection.execute(
            update(saga_instances)
            .where(saga.saga_id.in_(rows))
            .values(
                version=saga.version + 1,
                owner=owner,
                lease_until=lease_until,
                # What was claimed before its time is due when the lease is over.
                due=func.least(saga.due, now),
            )
            .returning(saga.saga_id, saga.payment_id, saga.definition_version, saga.version)
        )
        claims = {row.saga_id: Claim(**row._asdict()) for row in claimed}
        return [(claims[saga_id], row) for saga_id, row in rows.items()]

    def renew(self, claims: Sequence[Claim], *, lease_until: datetime) -> dict[UUID, Claim]:
        """Lock sagas and renew their claims. Their payments are locked.

        Returns:
            The new claims by saga; those that somebody else has moved meanwhile are missing.
        """
        rows = [{"saga_id": claim.saga_id, "version": claim.version} for claim in claims]
        if not rows:
            return {}
        values = {"rows": as_rows(rows), "lease_until": lease_until}
        renewed = self._connection.execute(_RENEW, values)
        return {row.saga_id: Claim(**row._asdict()) for row in renewed}

    def records(self, saga_ids: Collection[UUID]) -> Mapping[UUID, Records]:
        """Return the step records of sagas."""
        found: dict[UUID, Records] = {saga_id: {} for saga_id in saga_ids}
        query = select(saga_steps).where(saga_steps.c.saga_id.in_(saga_ids))
        for row in self._connection.execute(query).mappings() if found else ():
            record = record_of(row)
            found[row["saga_id"]][record.step, record.direction] = record
        return found

    def put_step(self, saga_id: UUID, record: StepRecord) -> None:
        """Keep a step record until the batch is written."""
        self._steps[saga_id, record.step, record.direction] = record

    def hold(self, claim: Claim, payment: Payment) -> None:
        """Keep the claim while the saga's current step becomes the payment's state.

        The saga stays due, so that another worker takes it when the lease is over.
        """
        self._move(claim, payment, status=SagaStatus.RUNNING, due=None)

    def release(self, claim: Claim, payment: Payment, *, due: datetime) -> None:
        """Give up the claim; the saga waits and is due again at ``due``."""
        self._move(claim, payment, status=SagaStatus.WAITING, due=due)

    def follow(self, payment: Payment, *, now: datetime) -> None:  # noqa: ARG002  # the batch's time
        """Remember to put the saga where the payment's flow is."""
        self._followed[payment.payment_id] = payment

    def wake(self, payment_id: UUID, *, now: datetime) -> None:  # noqa: ARG002  # the batch's time
        """Remember to let the saga look at the payment at once."""
        self._woken.add(payment_id)

    def write(self, *, now: datetime) -> None:
        """Move the sagas, and write their steps. Their payments are locked."""
        if self._followed:
            follow_payments(self._connection, list(self._followed.values()), now=now)
        if self._woken:
            wake_sagas(self._connection, self._woken, now=now)
        if self._moved:
            self._connection.execute(_MOVE, {"rows": as_rows(list(self._moved.values()))})
        if self._steps:
            steps = [(key[0], record) for key, record in self._steps.items()]
            put_steps(self._connection, steps, now=now)

    def put_off(self, claim: Claim, *, due: datetime) -> None:
        """Give up a claim whose saga can't be moved just now; at once."""
        saga = saga_instances.c
        self._connection.execute(
            update(saga_instances)
            .where(saga.saga_id == claim.saga_id, saga.version == claim.version)
            .values(due=due, owner=None, lease_until=None)
        )

    def _move(
        self, claim: Claim, payment: Payment, *, status: SagaStatus, due: datetime | None
    ) -> None:
        self._moved[claim.saga_id] = {
            "saga_id": claim.saga_id,
            "current_step": payment.state,
            "status": status,
            "due": due,
            "updated_at": payment.updated_at,
        }


_RENEW = text(
    """
    UPDATE saga_instances saga SET version = saga.version + 1, lease_until = :lease_until
      FROM json_to_recordset(CAST(:rows AS json)) AS given (saga_id uuid, version bigint)
     WHERE saga.saga_id = given.saga_id AND saga.version = given.version
    RETURNING saga.saga_id, saga.payment_id, saga.definition_version, saga.version
    """
)

_MOVE = text(
    """
    UPDATE saga_instances saga
       SET current_step = given.current_step,
           status = given.status,
           due = COALESCE(given.due, saga.due),
           owner = CASE WHEN given.due IS NULL THEN saga.owner END,
           lease_until = CASE WHEN given.due IS NULL THEN saga.lease_until END,
           updated_at = CASE WHEN given.due IS NULL THEN saga.updated_at ELSE given.updated_at END
      FROM json_to_recordset(CAST(:rows AS json)) AS given (saga_id uuid, current_step text,
           status text, due timestamptz, updated_at timestamptz)
     WHERE saga.saga_id = given.saga_id
    """
)
