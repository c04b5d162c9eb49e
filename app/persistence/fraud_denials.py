"""The fraud rules' deny lists in Postgres, one for each merchant account."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, RowMapping, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from app.clock import Clock
from app.domain.fraud import Denial, DenialKind
from app.domain.operators import Grounds, OperatorAction
from app.errors import MerchantAccountNotFound, StoreUnavailable
from app.persistence.engine import is_unavailable
from app.persistence.operator_actions import SqlOperatorActions
from app.persistence.tables import fraud_denials
from app.services.ports import NewId

_FIND = text(
    """
    SELECT kind FROM fraud_denials
     WHERE merchant_account = :merchant_account
       AND (kind, value) IN (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:values AS text[])))
     ORDER BY kind LIMIT 1
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDenial:
    """An entry as operators see it."""

    merchant_account: str
    denial: Denial
    reason: str
    added_by: str
    added_at: datetime


class FraudDenials:
    """The deny lists. Each method is one transaction; a change is an operator's action as well.

    What operators did is never deleted, so that it holds no mail address: there an address is
    masked.
    """

    def __init__(self, engine: Engine, clock: Clock, new_id: NewId) -> None:
        """Store through ``engine``."""
        self._engine = engine
        # One statement that every payment waits for: a transaction would be two more.
        self._asking = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._clock = clock
        self._new_id = new_id

    def add(self, merchant_account: str, denial: Denial, grounds: Grounds) -> bool:
        """Deny from now on.

        Returns:
            False if it is on the list already; nothing is changed then.

        Raises:
            MerchantAccountNotFound: No such account.
        """
        entry = {
            "merchant_account": merchant_account,
            "kind": denial.kind.value,
            "value": denial.value,
            "reason": grounds.reason,
            "added_by": grounds.operator,
            "added_at": self._clock.now(),
        }
        adding = insert(fraud_denials).values(entry).on_conflict_do_nothing()
        with self._engine.begin() as connection:
            try:
                added = connection.execute(adding.returning(fraud_denials)).mappings().one_or_none()
            except IntegrityError:
                raise MerchantAccountNotFound(merchant_account) from None
            if added is None:
                return False
            self._note(connection, "deny", grounds, _stored(added), is_added=True)
        return True

    def remove(self, merchant_account: str, denial: Denial, grounds: Grounds) -> bool:
        """Deny no longer.

        Returns:
            False if it is not on the list.
        """
        entry = fraud_denials.c
        removing = delete(fraud_denials).where(
            entry.merchant_account == merchant_account,
            entry.kind == denial.kind.value,
            entry.value == denial.value,
        )
        with self._engine.begin() as connection:
            removed = connection.execute(removing.returning(fraud_denials)).mappings().one_or_none()
            if removed is None:
                return False
            self._note(connection, "allow", grounds, _stored(removed), is_added=False)
        return True

    def list(self, merchant_account: str | None = None) -> Sequence[StoredDenial]:
        """Return the entries of one account, or of all, oldest first."""
        entry = fraud_denials.c
        query = select(fraud_denials).order_by(entry.merchant_account, entry.added_at)
        if merchant_account is not None:
            query = query.where(entry.merchant_account == merchant_account)
        with self._engine.connect() as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def find(self, merchant_account: str, denials: Collection[Denial]) -> DenialKind | None:
        """Return the kind of one of these entries that is on the list; None if none of them is.

        Raises:
            StoreUnavailable: Postgres can't be asked now.
        """
        wanted = {
            "merchant_account": merchant_account,
            "kinds": [denial.kind.value for denial in denials],
            "values": [denial.value for denial in denials],
        }
        try:
            with self._asking.connect() as connection:
                kind = connection.execute(_FIND, wanted).scalar_one_or_none()
        except SQLAlchemyError as error:
            if is_unavailable(error):
                raise StoreUnavailable from error
            raise
        return None if kind is None else DenialKind(kind)

    def _note(
        self,
        connection: Connection,
        action: str,
        grounds: Grounds,
        stored: StoredDenial,
        *,
        is_added: bool,
    ) -> None:
        shown = _shown(stored)
        SqlOperatorActions(connection, new_id=self._new_id).add(
            OperatorAction(
                grounds=grounds,
                action=action,
                subject=f"deny list of {stored.merchant_account}",
                before={} if is_added else shown,
                after=shown if is_added else {},
                at=self._clock.now(),
            )
        )


def _shown(stored: StoredDenial) -> Mapping[str, object]:
    return {
        "kind": stored.denial.kind.value,
        "value": stored.denial.masked,
        "reason": stored.reason,
        "added_by": stored.added_by,
    }


def _stored(row: RowMapping) -> StoredDenial:
    return StoredDenial(
        merchant_account=row["merchant_account"],
        denial=Denial(DenialKind(row["kind"]), row["value"]),
        reason=row["reason"],
        added_by=row["added_by"],
        added_at=row["added_at"],
    )
