"""One database transaction per ``with`` block."""

from types import TracebackType
from typing import ClassVar, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StoreUnavailable
from app.persistence.breaks import SqlBreaks
from app.persistence.engine import is_unavailable
from app.persistence.idempotency import SqlIdempotencyKeys
from app.persistence.messages import PostgresTransport
from app.persistence.operator_actions import SqlOperatorActions
from app.persistence.payments import SqlPayments
from app.persistence.reviews import SqlReviews
from app.persistence.sagas import SqlSagas
from app.services.ports import NewId


class SqlUnitOfWork:
    """A transaction and the repositories inside it.

    Leaving the block without ``commit`` rolls back, so that the forgotten case is the safe one.

    Raises:
        StoreUnavailable: On entering the block or inside it, when Postgres is away. Nothing is
            stored then, with one exception that no client can rule out: a commit whose answer was
            lost.
    """

    _payments_type: ClassVar[type[SqlPayments]] = SqlPayments
    _sagas_type: ClassVar[type[SqlSagas]] = SqlSagas
    _breaks_type: ClassVar[type[SqlBreaks]] = SqlBreaks

    connection: Connection
    payments: SqlPayments
    sagas: SqlSagas
    idempotency: SqlIdempotencyKeys
    breaks: SqlBreaks
    reviews: SqlReviews
    operator_actions: SqlOperatorActions
    transport: PostgresTransport

    def __init__(
        self,
        engine: Engine,
        *,
        saga_type: str,
        definition_version: int,
        review_owner: str,
        new_id: NewId,
    ) -> None:
        """Open a connection from ``engine`` when the block is entered.

        Args:
            engine: The connections.
            saga_type: See ``SqlSagas``.
            definition_version: See ``SqlSagas``.
            review_owner: See ``SqlReviews``.
            new_id: Makes ids.
        """
        self._engine = engine
        self._review_owner = review_owner
        self._saga_type = saga_type
        self._definition_version = definition_version
        self._new_id = new_id

    def __enter__(self) -> Self:
        """Begin."""
        try:
            self.connection = self._engine.connect()
        except SQLAlchemyError as error:
            if is_unavailable(error):
                raise StoreUnavailable from error
            raise
        self._open_repositories()
        return self

    def _open_repositories(self) -> None:
        self.payments = self._payments_type(self.connection)
        self.sagas = self._sagas_type(
            self.connection,
            saga_type=self._saga_type,
            definition_version=self._definition_version,
            new_id=self._new_id,
        )
        self.idempotency = SqlIdempotencyKeys(self.connection)
        self.breaks = self._breaks_type(self.connection, new_id=self._new_id)
        self.reviews = SqlReviews(self.connection, owner=self._review_owner, new_id=self._new_id)
        self.operator_actions = SqlOperatorActions(self.connection, new_id=self._new_id)
        self.transport = PostgresTransport(self.connection)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Roll back whatever was not committed."""
        try:
            self.connection.close()
        except SQLAlchemyError as error:
            exc = exc or error
        if is_unavailable(exc):
            raise StoreUnavailable from exc

    def commit(self) -> None:
        """Make the work durable."""
        self.connection.commit()
