"""Commands and responses in Postgres: the transport that needs nothing beside the database.

What a batch sends is written with the saga's state, in one commit. What a participant elsewhere
takes and answers is a transaction of its own.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, select, text, update

from app.domain.saga import Command, Direction, Received, Response, StepRecord
from app.persistence.recordset import as_rows, from_rows, insert_rows
from app.persistence.tables import commands, responses, saga_instances


class PostgresTransport:
    """See ``Transport``. ``send``, ``withdraw`` and ``keep`` wait for ``write``."""

    def __init__(self, connection: Connection) -> None:
        """Work inside ``connection``'s transaction."""
        self._connection = connection
        self._sent: dict[UUID, Mapping[str, object]] = {}
        self._withdrawn: set[UUID] = set()
        self._kept: list[Mapping[str, object]] = []

    def send(self, intent: StepRecord, command: Command, *, offered_until: datetime | None) -> None:
        """Queue the command of an intent; the same command again changes only its offer."""
        self._sent[command.message_id] = {
            "message_id": command.message_id,
            "saga_id": command.saga_id,
            "step": intent.step,
            "direction": intent.direction,
            "round": intent.round,
            "merchant_account": command.merchant_account,
            "service_id": command.service_id,
            "operation": command.operation,
            "idempotency_key": command.idempotency_key,
            "data": command.data,
            "timestamp": command.timestamp,
            "offered_until": offered_until,
        }

    def withdraw(self, saga_id: UUID) -> None:
        """Offer the saga's commands to act no longer: it goes another way."""
        self._withdrawn.add(saga_id)

    def keep(self, response: Response) -> None:
        """Keep a response that the sender brought back itself, and is applying."""
        self._kept.append(_row(response, applied_at=response.timestamp))

    def receive(
        self, saga_ids: Collection[UUID], *, now: datetime
    ) -> Mapping[UUID, Sequence[Received]]:
        """Return, and mark as applied, what participants elsewhere answered to these sagas."""
        found: dict[UUID, list[Received]] = defaultdict(list)
        if not saga_ids:
            return found
        wanted = {"saga_ids": list(saga_ids), "now": now}
        received = self._connection.execute(_RECEIVE, wanted).mappings()
        for row in sorted(received, key=lambda row: row["timestamp"]):
            answered = Received(
                step=row["step"],
                direction=Direction(row["direction"]),
                round=row["round"],
                response=_response_of(row),
            )
            found[row["saga_id"]].append(answered)
        return found

    def write(self) -> None:
        """Write what was sent, withdrawn and kept. The sagas are locked."""
        if self._withdrawn:
            self._connection.execute(_WITHDRAW, {"saga_ids": list(self._withdrawn)})
        if self._sent:
            self._connection.execute(_SEND, {"rows": as_rows(list(self._sent.values()))})
        if self._kept:
            self._connection.execute(_KEEP, {"rows": as_rows(self._kept)})

    def take(
        self,
        service_id: str,
        merchant_account: str,
        *,
        taken_by: str,
        limit: int,
        now: datetime,
        taken_until: datetime,
    ) -> Sequence[Command]:
        """Hand out what is offered to a participant elsewhere, oldest first."""
        wanted = {
            "service_id": service_id,
            "merchant_account": merchant_account,
            "taken_by": taken_by,
            "limit": limit,
            "now": now,
            "taken_until": taken_until,
        }
        taken = self._connection.execute(_TAKE, wanted).mappings()
        return sorted(map(_command_of, taken), key=lambda command: command.timestamp)

    def answer(self, response: Response) -> bool:
        """Keep the response of a participant elsewhere, and wake its saga."""
        saga = saga_instances.c
        is_awaited = self._connection.execute(
            update(saga_instances)
            .where(saga.saga_id == response.saga_id, saga.due.is_not(None))
            .values(due=response.timestamp)
        ).rowcount
        is_offered = self._connection.execute(
            update(commands)
            .where(
                commands.c.message_id == response.command_id, commands.c.offered_until.is_not(None)
            )
            .values(offered_until=None)
        ).rowcount
        is_in_time = bool(is_awaited and is_offered)
        row = _row(response, applied_at=None if is_in_time else response.timestamp)
        self._connection.execute(_KEEP, {"rows": as_rows([row])})
        return is_in_time

    def command(self, message_id: UUID) -> tuple[Command, Response | None] | None:
        """Return a command and its latest response; None if there is no such command.

        Its saga is locked: a worker that is deciding about it just now decides without a response
        that is about to be kept, and finds the saga due again.
        """
        query = select(commands).where(commands.c.message_id == message_id)
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        saga = select(saga_instances.c.saga_id).where(saga_instances.c.saga_id == row["saga_id"])
        self._connection.execute(saga.with_for_update())
        latest = self._connection.execute(
            select(responses)
            .where(responses.c.command_id == message_id)
            .order_by(responses.c.timestamp.desc())
            .limit(1)
        ).mappings()
        return _command_of(row), next(map(_response_of, latest), None)


def _row(response: Response, *, applied_at: datetime | None) -> Mapping[str, object]:
    return {
        "message_id": response.message_id,
        "command_id": response.command_id,
        "saga_id": response.saga_id,
        "service_id": response.service_id,
        "success": response.success,
        "data": response.data,
        "timestamp": response.timestamp,
        "applied_at": applied_at,
    }


def _command_of(row: RowMapping | Mapping[str, Any]) -> Command:
    return Command(
        message_id=row["message_id"],
        saga_id=row["saga_id"],
        service_id=row["service_id"],
        operation=row["operation"],
        idempotency_key=row["idempotency_key"],
        merchant_account=row["merchant_account"],
        data=row["data"],
        timestamp=row["timestamp"],
    )


def _response_of(row: RowMapping | Mapping[str, Any]) -> Response:
    return Response(
        message_id=row["message_id"],
        command_id=row["command_id"],
        saga_id=row["saga_id"],
        service_id=row["service_id"],
        success=row["success"],
        data=row["data"],
        timestamp=row["timestamp"],
    )


_SENT = [
    column.name for column in commands.columns if column.name not in {"taken_by", "taken_until"}
]
_SEND = text(
    f"""
    INSERT INTO commands ({", ".join(_SENT)})
    SELECT {", ".join(_SENT)} FROM {from_rows(commands, _SENT)}
        ON CONFLICT (message_id) DO UPDATE
       SET offered_until = excluded.offered_until, taken_by = NULL, taken_until = NULL
     WHERE excluded.offered_until IS NOT NULL
    """  # noqa: S608  # names of our own table
)
_KEEP = insert_rows(responses, [column.name for column in responses.columns])
_WITHDRAW = text(
    """
    UPDATE commands SET offered_until = NULL
     WHERE saga_id = ANY(:saga_ids) AND direction = 'act' AND offered_until IS NOT NULL
    """
)
_RECEIVE = text(
    """
    UPDATE responses SET applied_at = :now
      FROM commands
     WHERE responses.saga_id = ANY(:saga_ids) AND responses.applied_at IS NULL
       AND commands.message_id = responses.command_id
    RETURNING responses.*, commands.step, commands.direction, commands.round
    """
)
_TAKE = text(
    """
    UPDATE commands SET taken_by = :taken_by, taken_until = :taken_until
     WHERE message_id IN (
            SELECT message_id FROM commands
             WHERE service_id = :service_id AND merchant_account = :merchant_account
               AND offered_until > :now AND (taken_until IS NULL OR taken_until <= :now)
             ORDER BY timestamp LIMIT :limit
               FOR UPDATE SKIP LOCKED)
    RETURNING commands.*
    """
)
