"""One connection to Postgres without a pool and without a transaction: each statement commits.

For the one place that is as fast as Postgres allows: storing webhooks. Statements are prepared, and
a full pool elsewhere does not touch it.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, LiteralString

import psycopg

from app.errors import StoreUnavailable
from app.persistence.engine import connection_arguments

#: A statement that takes longer is given up: whoever waits for it has lost patience by then.
STATEMENT_SECONDS = 5


class DirectConnection:
    """A connection for one thread at a time, made when it is first needed, and again when lost."""

    def __init__(self, database_url: str, *, application_name: str) -> None:
        """Remember where to connect."""
        self._database_url = database_url
        self._application_name = application_name
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def execute(
        self, query: LiteralString, parameters: Mapping[str, object]
    ) -> Sequence[tuple[Any, ...]]:
        """Run one statement, which is durable when this returns; return its rows.

        The statement may run twice: a connection that was lost is made again once, so that a
        restart of Postgres between two webhooks costs neither of them.

        Raises:
            StoreUnavailable: Postgres can't do it now. The statement may have taken effect.
        """
        while True:
            is_fresh = self._connection is None
            try:
                return self._run(query, parameters)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                is_lost = self._connection is None or bool(self._connection.closed)
                if not is_lost and not _is_passing(error):
                    raise  # Postgres is well, and refuses this statement for what it says
                if is_fresh or not is_lost:
                    raise StoreUnavailable from error
            self.close()

    def abandon(self) -> None:
        """Break the connection under a statement that hangs; for another thread to call."""
        connection = self._connection
        if connection is None:
            return
        with (
            suppress(psycopg.Error, OSError),
            closing(socket.socket(fileno=os.dup(connection.fileno()))) as wire,
        ):
            wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(
        self, query: LiteralString, parameters: Mapping[str, object]
    ) -> Sequence[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection.execute(query, parameters, prepare=True).fetchall()

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            self._database_url,
            autocommit=True,
            **connection_arguments(self._application_name, statement_seconds=STATEMENT_SECONDS),
        )


def _is_passing(error: psycopg.Error) -> bool:
    """Tell whether Postgres could not do it now; its error classes say so.

    Connections (08), resources (53), an operator (57) and other transactions (40, 55).
    """
    return error.sqlstate is None or error.sqlstate[:2] in {"08", "40", "53", "55", "57"}
