"""Sagas in Postgres: their steps, and how they follow their payments."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, RowMapping, ScalarSelect, insert, select, text, update

from app.domain.flow import REST_STATES
from app.domain.identifiers import step_key
from app.domain.payment import Payment
from app.domain.saga import Direction, SagaStatus, StepRecord, StepStatus
from app.persistence.recordset import as_rows, from_rows
from app.persistence.tables import saga_instances, saga_steps
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
            definition_version: New sagas start under it.
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
            .values(
                round=saga_steps.c.round + 1,
                attempts=0,
                status=StepStatus.REGISTERED,
                request=None,
                due=None,
            )
        )

    def steps(self, payment_id: UUID) -> list[StepRecord]:
        """Return the step records of the payment's saga."""
        query = select(saga_steps).where(saga_steps.c.saga_id == _saga_id_of(payment_id))
        return [record_of(row) for row in self._connection.execute(query).mappings()]

    def definition_version(self, payment_id: UUID) -> int:
        """Return the version of the definition that the payment's saga began under."""
        query = select(saga_instances.c.definition_version).where(
            saga_instances.c.payment_id == payment_id
        )
        version: int = self._connection.execute(query).scalar_one()
        return version

    def put_steps(
        self, payment_id: UUID, records: Collection[StepRecord], *, now: datetime
    ) -> None:
        """Insert or update step records of the payment's saga."""
        saga_id = self._connection.execute(select(_saga_id_of(payment_id))).scalar_one()
        put_steps(self._connection, [(saga_id, record) for record in records], now=now)


def record_of(row: RowMapping) -> StepRecord:
    """Return the record that a row of ``saga_steps`` holds."""
    return StepRecord(
        step=row["step"],
        direction=Direction(row["direction"]),
        status=StepStatus(row["status"]),
        round=row["round"],
        attempts=row["attempts"],
        request=row["request"],
        response=row["response"],
        started_at=row["started_at"],
        asked_at=row["asked_at"],
        due=row["due"],
    )


def put_steps(
    connection: Connection, records: Collection[tuple[UUID, StepRecord]], *, now: datetime
) -> None:
    """Insert or update step records, each with the id of its saga."""
    rows = [
        {
            "saga_id": saga_id,
            "step": record.step,
            "direction": record.direction,
            "status": record.status,
            "round": record.round,
            "attempts": record.attempts,
            "idempotency_key": step_key(saga_id, record.step, record.direction, record.round),
            "request": record.request,
            "response": record.response,
            "due": record.due,
            "started_at": record.started_at,
            "asked_at": record.asked_at,
            "updated_at": now,
        }
        for saga_id, record in records
    ]
    connection.execute(_PUT_STEPS, {"rows": as_rows(rows)})


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
    at_rest = [payment.payment_id for payment in followed if payment.state in REST_STATES]
    if at_rest:
        # Nobody elsewhere is to carry out what nobody waits for any more.
        connection.execute(_WITHDRAW, {"payment_ids": at_rest})


def wake_sagas(connection: Connection, payment_ids: Collection[UUID], *, now: datetime) -> None:
    """Let each payment's saga look at it at once; see ``SqlSagas.wake``."""
    saga = saga_instances.c
    connection.execute(
        update(saga_instances)
        .where(saga.payment_id.in_(payment_ids), saga.due.is_not(None))
        .values(due=now)
    )


_WITHDRAW = text(
    """
    UPDATE commands SET offered_until = NULL
      FROM saga_instances saga
     WHERE saga.payment_id = ANY(:payment_ids) AND commands.saga_id = saga.saga_id
       AND commands.offered_until IS NOT NULL
    """
)

_STEP_KEY = ("saga_id", "step", "direction")
_STEP_COLUMNS = [column.name for column in saga_steps.columns]
_PUT_STEPS = text(
    f"""
    INSERT INTO saga_steps ({", ".join(_STEP_COLUMNS)})
    SELECT {", ".join(_STEP_COLUMNS)} FROM {from_rows(saga_steps, _STEP_COLUMNS)}
        ON CONFLICT ({", ".join(_STEP_KEY)}) DO UPDATE
       SET {", ".join(f"{n} = excluded.{n}" for n in _STEP_COLUMNS if n not in _STEP_KEY)}
    """  # noqa: S608  # names of our own table
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
