"""Commands and responses in Postgres: the transport that needs nothing beside the database.

What a batch sends is written with the saga's state, in one commit. What a participant elsewhere
takes and answers is a transaction of its own.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, select, text, update

from app.domain.saga import (
    Command,
    Direction,
    HandedOut,
    Offer,
    Received,
    Response,
    StepRecord,
)
from app.persistence.recordset import as_rows, from_rows, insert_rows
from app.persistence.tables import commands, responses, saga_instances

#: When an offer has been over for so long, its saga has gone another way, and it is let go: what
#: nobody took while a participant was away must not be stepped over by every later look.
OVER = timedelta(minutes=5)

#: How many of the oldest offers one look lets go at the most.
LOOKED_AT = 1000


class PostgresTransport:
    """See ``Transport``. ``send``, ``withdraw`` and ``keep`` wait for ``write``."""

    def __init__(self, connection: Connection) -> None:
        """Work inside ``connection``'s transaction."""
        self._connection = connection
        self._sent: dict[UUID, dict[str, object]] = {}
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
        for sent in self._sent.values():
            if sent["saga_id"] == saga_id and sent["direction"] is Direction.ACT:
                sent["offered_until"] = None

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
    ) -> Sequence[Offer]:
        """Hand out what is offered to a participant elsewhere, oldest first."""
        offered = {"service_id": service_id, "merchant_account": merchant_account}
        over = {"over_by": now - OVER, "looked_at": LOOKED_AT}
        self._connection.execute(_LET_GO, offered | over)
        wanted = {"taken_by": taken_by, "limit": limit, "now": now, "taken_until": taken_until}
        taken = self._connection.execute(_TAKE, offered | wanted).mappings()
        offers = [Offer(command=_command_of(row), until=row["offered_until"]) for row in taken]
        return sorted(offers, key=lambda offer: offer.command.timestamp)

    def payment_of(
        self, message_id: UUID, *, service_id: str, merchant_account: str
    ) -> UUID | None:
        """Return the payment that a command is about; see ``Transport``. Locks nothing."""
        query = (
            select(saga_instances.c.payment_id)
            .join_from(commands, saga_instances, commands.c.saga_id == saga_instances.c.saga_id)
            .where(
                commands.c.message_id == message_id,
                commands.c.service_id == service_id,
                commands.c.merchant_account == merchant_account,
                commands.c.taken_by.is_not(None),
            )
        )
        return self._connection.execute(query).scalar_one_or_none()

    def handed_out(self, message_id: UUID) -> HandedOut | None:
        """Return what became of a command that was taken, and lock its saga."""
        saga_id = select(commands.c.saga_id).where(commands.c.message_id == message_id)
        saga = select(saga_instances.c.saga_id).where(
            saga_instances.c.saga_id == saga_id.scalar_subquery()
        )
        self._connection.execute(saga.with_for_update())
        # Read when nobody else decides about it any more, and held against retention.
        command = select(commands).where(commands.c.message_id == message_id)
        held = command.with_for_update(read=True, key_share=True)
        row = self._connection.execute(held).mappings().one_or_none()
        if row is None:
            return None
        latest = self._latest_response(message_id)
        return HandedOut(
            command=_command_of(row),
            step=row["step"],
            direction=Direction(row["direction"]),
            is_offered=row["offered_until"] is not None,
            response=_response_of(latest) if latest else None,
            is_late=latest is not None and latest["applied_at"] == latest["timestamp"],
        )

    def answer(self, response: Response) -> bool:
        """Keep the response of a participant elsewhere, and wake its saga."""
        is_in_time = self._close_offer(response.command_id) and self._wake(response)
        # Whatever is late has been read at once; ``receive`` always reads later.
        row = _row(response, applied_at=None if is_in_time else response.timestamp)
        self._connection.execute(_KEEP, {"rows": as_rows([row])})
        return is_in_time

    def _close_offer(self, message_id: UUID) -> bool:
        command = commands.c
        closed = self._connection.execute(
            update(commands)
            .where(command.message_id == message_id, command.offered_until.is_not(None))
            .values(offered_until=None, taken_until=None)
        )
        return closed.rowcount > 0

    def _wake(self, response: Response) -> bool:
        saga = saga_instances.c
        woken = self._connection.execute(
            update(saga_instances)
            .where(saga.saga_id == response.saga_id, saga.due.is_not(None))
            .values(due=response.timestamp)
        )
        return woken.rowcount > 0

    def _latest_response(self, message_id: UUID) -> RowMapping | None:
        query = (
            select(responses)
            .where(responses.c.command_id == message_id)
            .order_by(responses.c.timestamp.desc(), responses.c.message_id.desc())
            .limit(1)
        )
        return self._connection.execute(query).mappings().one_or_none()


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
       SET offered_until = excluded.offered_until
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
    UPDATE responses
       SET applied_at = GREATEST(:now, responses.timestamp + interval '1 microsecond')
      FROM commands
     WHERE responses.saga_id = ANY(:saga_ids) AND responses.applied_at IS NULL
       AND commands.message_id = responses.command_id
    RETURNING responses.*, commands.step, commands.direction, commands.round
    """
)
#: Arrays, so that no plan looks for the rows more than once and takes more than it may.
_TAKE = text(
    """
    UPDATE commands SET taken_by = :taken_by, taken_until = :taken_until
     WHERE message_id = ANY(ARRAY(
            SELECT message_id FROM commands
             WHERE service_id = :service_id AND merchant_account = :merchant_account
               AND offered_until > :now AND (taken_until IS NULL OR taken_until <= :now)
             ORDER BY timestamp LIMIT :limit
               FOR UPDATE SKIP LOCKED))
    RETURNING commands.*
    """
)
_LET_GO = text(
    """
    UPDATE commands SET offered_until = NULL
     WHERE message_id = ANY(ARRAY(
            SELECT c.message_id
              FROM (SELECT message_id, offered_until FROM commands
                     WHERE service_id = :service_id AND merchant_account = :merchant_account
                       AND offered_until IS NOT NULL
                     ORDER BY timestamp LIMIT :looked_at) AS oldest
              JOIN commands c USING (message_id)
             WHERE oldest.offered_until <= :over_by AND c.offered_until <= :over_by
               FOR UPDATE OF c SKIP LOCKED))
    """
)
