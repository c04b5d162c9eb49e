"""Every stored secret, and how all of them come under the newest master key."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, Table, select, update

from app.persistence.encryption import Vault
from app.persistence.tables import hmac_keys, merchant_accounts

#: Secrets in one transaction: their rows are locked for milliseconds.
BATCH_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretColumn:
    """A column of encrypted secrets, and the key of its rows."""

    table: Table
    key: str
    secret: str

    def batch(self, after: object) -> Select[Any]:
        """Select the next secrets in the order of their keys; from the first if None."""
        key: ColumnElement[Any] = self.table.c[self.key]
        secret: ColumnElement[Any] = self.table.c[self.secret]
        chosen = select(key.label("key"), secret.label("token")).where(secret.is_not(None))
        if after is not None:
            chosen = chosen.where(key > after)
        return chosen.order_by(key).limit(BATCH_SIZE)


#: Every column of the schema that holds what the vault closed.
SECRET_COLUMNS = (
    SecretColumn(table=hmac_keys, key="key_id", secret="secret_encrypted"),  # noqa: S106  # a name
    SecretColumn(
        table=merchant_accounts,
        key="merchant_account",
        secret="basic_password_encrypted",  # noqa: S106  # the same
    ),
)


def reencrypt(engine: Engine, vault: Vault) -> int:
    """Put every secret under the newest master key, one transaction a batch.

    A secret that is there already stays as it is, so that a run that was cut short is repeated.

    Returns:
        How many secrets were re-encrypted.

    Raises:
        InvalidSettings: No master key opens one of the secrets. Batches before it are done.
    """
    return sum(_reencrypt_column(engine, vault, column) for column in SECRET_COLUMNS)


def count_under_old_keys(connection: Connection, vault: Vault) -> int:
    """Return how many secrets the newest master key does not open."""
    return sum(
        not vault.is_newest(bytes(row.token))
        for column in SECRET_COLUMNS
        for row in _rows(connection, column)
    )


def _reencrypt_column(engine: Engine, vault: Vault, column: SecretColumn) -> int:
    changed = 0
    last: object = None
    while True:
        with engine.begin() as connection:
            # Whoever counts a key's uses only needs the row to be there: it is not made to wait.
            locked = column.batch(last).with_for_update(key_share=True)
            rows = connection.execute(locked).all()
            for row in rows:
                changed += _reencrypt_row(connection, vault, column, row)
        if len(rows) < BATCH_SIZE:
            return changed
        last = rows[-1].key


def _reencrypt_row(
    connection: Connection, vault: Vault, column: SecretColumn, row: Row[Any]
) -> bool:
    token = bytes(row.token)
    if vault.is_newest(token):
        return False
    connection.execute(
        update(column.table)
        .where(column.table.c[column.key] == row.key)
        .values({column.secret: vault.reencrypt(token)})
    )
    return True


def _rows(connection: Connection, column: SecretColumn) -> Iterator[Row[Any]]:
    last: object = None
    while rows := connection.execute(column.batch(last)).all():
        yield from rows
        last = rows[-1].key
