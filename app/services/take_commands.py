"""Use case: a participant elsewhere takes commands of its service."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.clock import Clock
from app.domain.saga import Offer
from app.services.ports import UnitOfWorkFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeCommands:
    """What a participant asks for.

    Attributes:
        taken_by: The API key's prefix; kept with the commands.
        limit: Commands at the most.
        lease_seconds: For how long nobody else is handed them.
    """

    service_id: str
    merchant_account: str
    taken_by: str
    limit: int
    lease_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Commands, oldest first, and until when they are this participant's; empty if none waits."""

    offers: Sequence[Offer]
    lease_until: datetime


def take_commands(asked: TakeCommands, *, unit_of_work: UnitOfWorkFactory, clock: Clock) -> Taken:
    """Hand out offered commands, each to one participant at a time.

    Delivery is at least once: what is not answered by the end of its lease is handed out again,
    with the same ``message_id`` and idempotency key, for as long as it is offered. A command that
    is withdrawn is never handed out again; a participant that has it in hand is not told, and its
    answer is late.

    Raises:
        StoreUnavailable: Nothing was handed out, or its answer was lost: it comes again.
    """
    now = clock.now()
    lease_until = now + timedelta(seconds=asked.lease_seconds)
    with unit_of_work() as uow:
        offers = uow.transport.take(
            asked.service_id,
            asked.merchant_account,
            taken_by=asked.taken_by,
            limit=asked.limit,
            now=now,
            taken_until=lease_until,
        )
        uow.commit()
    return Taken(offers=offers, lease_until=lease_until)
