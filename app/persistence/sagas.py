"""Sagas in Postgres: the claim, the fence and the step records."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, ScalarSelect, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.domain.flow import REST_STATES
from app.domain.payment import Payment
from app.domain.saga import Claim, Direction, SagaStatus, StepRecord, StepStatus
from app.persistence.payments import payment_of
from app.persistence.recordset import as_rows, from_rows
from app.persistence.tables import payments, saga_instances, saga_steps
from app.services.ports import NewId


class SqlSagas:
    """The sagas inside one transaction, of one definition."""

    def __init__(
        self, connection: Connection, *, saga_type: str, definition_version: int, new_id: NewId
    ) -> None:
        """Work inside ``connection``'s transaction.

        Args:
            connection: The transaction.
            saga_type: The definition's stored name.
            definition_version: New sagas start under it, and only sagas of it are claimed.
            new_id: Makes saga ids.
        """
        self._connection = connection
        self._type = saga_type
        self._definition_version = definition_version
        self._new_id = new_id

    def start(self, payment: Payment, *, now: datetime) -> None:
        """Create the payment's saga, due at once."""
        self._connection.execute(
            insert(saga_instances).values(
                saga_id=self._new_id(),
                payment_id=payment.payment_id,
                saga_type=self._type,
                definition_version=self._definition_version,
                current_step=payment.state,
                status=SagaStatus.RUNNING,
                version=1,
                due=now,
                created_at=now,
                updated_at=now,
            )
        )

    def follow(self, payment: Payment, *, now: datetime) -> None:
        """Put the saga where the payment's flow is; breaks a runner's claim."""
        follow_payments(self._connection, [payment], now=now)

    def wake(self, payment_id: UUID, *, now: datetime) -> None:
        """Let the saga look at the payment at once. A running claim stays valid."""
        wake_sagas(self._connection, [payment_id], now=now)

    def reopen_undo(self, payment_id: UUID) -> None:
        """Let every step be undone once more, as a new decision with new idempotency keys."""
        self._connection.execute(
            update(saga_steps)
            .where(
                saga_steps.c.saga_id == _saga_id_of(payment_id),
                saga_steps.c.direction == Direction.UNDO,
            )
            .values(round=saga_steps.c.round + 1, attempts=0, status=StepStatus.ASKED)
        )

    def claim_due(
        self,
        *,
        as_of: datetime,
        now: datetime,
        lease_until: datetime,
        owner: str,
        payment_id: UUID | None = None,
    ) -> tuple[Claim, Payment] | None:
        """Claim the saga that has been due longest, and lock its payment; None if none is free.

        Both rows are locked by one statement that skips locked rows, so that it never waits.
        """
        saga = saga_instances.c
        query = (
            select(saga.saga_id, payments)
            .join_from(saga_instances, payments, saga.payment_id == payments.c.payment_id)
            .where(
                saga.due <= as_of,
                (saga.lease_until.is_(None)) | (saga.lease_until <= now),
                saga.saga_type == self._type,
                saga.definition_version == self._definition_version,
            )
            .order_by(saga.due)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if payment_id is not None:
            query = query.where(saga.payment_id == payment_id)
        found = self._connection.execute(query).mappings().one_or_none()
        if found is None:
            return None
        claimed = self._connection.execute(
            update(saga_instances)
            .where(saga.saga_id == found["saga_id"])
            .values(version=saga.version + 1, owner=owner, lease_until=lease_until)
            .returning(saga.saga_id, saga.payment_id, saga.version)
        ).one()
        return Claim(**claimed._asdict()), payment_of(found)

    def renew(self, claim: Claim, *, lease_until: datetime) -> Claim | None:
        """Lock the saga and renew the claim; None if somebody else has moved it since."""
        saga = saga_instances.c
        renewed = self._connection.execute(
            update(saga_instances)
            .where(saga.saga_id == claim.saga_id, saga.version == claim.version)
            .values(version=saga.version + 1, lease_until=lease_until)
            .returning(saga.saga_id, saga.payment_id, saga.version)
        ).one_or_none()
        return Claim(**renewed._asdict()) if renewed else None

    def release(self, claim: Claim, payment: Payment, *, due: datetime) -> None:
        """Give up the claim; the saga waits and is due again at ``due``."""
        self._connection.execute(
            update(saga_instances)
            .where(saga_instances.c.saga_id == claim.saga_id)
            .values(
                current_step=payment.state,
                status=SagaStatus.WAITING,
                due=due,
                owner=None,
                lease_until=None,
                updated_at=payment.updated_at,
            )
        )

    def hold(self, claim: Claim, payment: Payment) -> None:
        """Keep the claim while the saga's current step becomes the payment's state."""
        self._connection.execute(
            update(saga_instances)
            .where(saga_instances.c.saga_id == claim.saga_id)
            .values(current_step=payment.state, status=SagaStatus.RUNNING)
        )

    def steps(self, payment_id: UUID) -> list[StepRecord]:
        """Return the step records of the payment's saga."""
        steps = saga_steps.c
        query = select(
            steps.step,
            steps.direction,
            steps.status,
            steps.round,
            steps.attempts,
            steps.response,
            steps.started_at,
            steps.asked_at,
        ).where(steps.saga_id == _saga_id_of(payment_id))
        return [
            StepRecord(
                step=row.step,
                direction=Direction(row.direction),
                status=StepStatus(row.status),
                round=row.round,
                attempts=row.attempts,
                response=row.response,
                started_at=row.started_at,
                asked_at=row.asked_at,
            )
            for row in self._connection.execute(query)
        ]

    def put_step(self, saga_id: UUID, record: StepRecord, key: str, *, now: datetime) -> None:
        """Insert or update one step record."""
        values = {
            "status": record.status,
            "round": record.round,
            "attempts": record.attempts,
            "idempotency_key": key,
            "response": dict(record.response),
            "started_at": record.started_at,
            "asked_at": record.asked_at,
            "updated_at": now,
        }
        row = {"saga_id": saga_id, "step": record.step, "direction": record.direction}
        statement = upsert(saga_steps).values(row | values)
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=list(row), set_=values)
        )


def follow_payments(connection: Connection, followed: Sequence[Payment], *, now: datetime) -> None:
    """Put each payment's saga where the payment's flow is; see ``SqlSagas.follow``."""
    rows = [
        {
            "payment_id": payment.payment_id,
            "current_step": payment.state,
            "status": SagaStatus.RESTING if payment.state in REST_STATES else SagaStatus.RUNNING,
            "due": None if payment.state in REST_STATES else now,
            "updated_at": now,
        }
        for payment in followed
    ]
    connection.execute(_FOLLOW, {"rows": as_rows(rows)})


def wake_sagas(connection: Connection, payment_ids: Collection[UUID], *, now: datetime) -> None:
    """Let each payment's saga look at it at once; see ``SqlSagas.wake``."""
    saga = saga_instances.c
    connection.execute(
        update(saga_instances)
        .where(saga.payment_id.in_(payment_ids), saga.due.is_not(None))
        .values(due=now)
    )


_GIVEN = from_rows(saga_instances, ["payment_id", "current_step", "status", "due", "updated_at"])
_FOLLOW = text(
    f"""
    UPDATE saga_instances
       SET current_step = given.current_step, status = given.status, due = given.due,
           updated_at = given.updated_at, version = version + 1, owner = NULL, lease_until = NULL
      FROM {_GIVEN}
     WHERE saga_instances.payment_id = given.payment_id
    """  # noqa: S608  # names of our own table
)


def _saga_id_of(payment_id: UUID) -> ScalarSelect[UUID]:
    return (
        select(saga_instances.c.saga_id)
        .where(saga_instances.c.payment_id == payment_id)
        .scalar_subquery()
    )
