"""Many rows in one statement, sent as one JSON parameter.

Of the ways to hand Postgres a batch, this one costs this process least, and names its columns. The
types come from the table, so that text, times, bytes and JSON arrive as what they are.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects import postgresql

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own


def as_rows(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as the parameter ``:rows``."""
    return orjson.dumps(rows, default=_plain).decode()


def from_rows(table: Table, names: Collection[str]) -> str:
    """Return the FROM item ``given``: the parameter ``:rows`` as rows of the table's columns."""
    columns = ", ".join(f"{name} {table.c[name].type.compile(_DIALECT)}" for name in names)
    return f"json_to_recordset(CAST(:rows AS json)) AS given ({columns})"


def insert_rows(table: Table, names: Collection[str]) -> TextClause:
    """Return the statement that inserts ``:rows``."""
    listed = ", ".join(names)
    given = from_rows(table, names)
    return text(f"INSERT INTO {table.name} ({listed}) SELECT {listed} FROM {given}")  # noqa: S608  # names of our own tables


def update_rows(table: Table, key: str, names: Collection[str]) -> TextClause:
    """Return the statement that sets the columns ``names`` where ``key`` is as in ``:rows``."""
    name = table.name
    changes = ", ".join(f"{column} = given.{column}" for column in names)
    given = from_rows(table, [key, *names])
    return text(f"UPDATE {name} SET {changes} FROM {given} WHERE {name}.{key} = given.{key}")  # noqa: S608  # the same


def _plain(value: Any) -> object:  # noqa: ANN401  # orjson's hook
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)
