"""The audit log of what people did by hand, in Postgres. A trigger refuses to change it."""

from sqlalchemy import Connection, insert

from app.domain.operators import OperatorAction
from app.persistence.tables import operator_actions
from app.services.ports import NewId


class SqlOperatorActions:
    """The audit log inside one transaction."""

    def __init__(self, connection: Connection, *, new_id: NewId) -> None:
        """Write inside ``connection``'s transaction, under ids that ``new_id`` makes."""
        self._connection = connection
        self._new_id = new_id

    def add(self, action: OperatorAction) -> None:
        """Keep an action for ever."""
        self._connection.execute(
            insert(operator_actions).values(
                action_id=self._new_id(),
                operator=action.grounds.operator,
                action=action.action,
                subject=action.subject,
                reason=action.grounds.reason,
                before=action.before,
                after=action.after,
                at=action.at,
            )
        )
