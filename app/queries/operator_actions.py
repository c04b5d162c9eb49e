"""The audit log, as it is shown."""

from sqlalchemy import Connection, text

from app.queries.payments import Json, instant

_LIST = text(
    """
    SELECT action_id, at, operator, action, subject, reason, before, after FROM operator_actions
     WHERE CAST(:subject AS text) IS NULL OR subject = :subject
     ORDER BY at DESC, action_id DESC LIMIT :limit
    """
)


def operator_actions(connection: Connection, *, subject: str | None, limit: int) -> list[Json]:
    """Return what people did by hand, newest first.

    Args:
        connection: Read from here.
        subject: A payment's id or a webhook's GUID; None for all.
        limit: Actions at most.
    """
    rows = connection.execute(_LIST, {"subject": subject, "limit": limit}).mappings()
    return [{**row, "action_id": str(row["action_id"]), "at": instant(row["at"])} for row in rows]
