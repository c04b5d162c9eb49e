"""Payments and modifications on disk, inside the caller's transaction."""

import secrets
import sqlite3
import string
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from types import MappingProxyType

from simulator.payments import Payment

_ALPHABET = string.ascii_uppercase + string.digits
_COLUMNS = tuple(field.name for field in fields(Payment))
_NAMES = ", ".join(_COLUMNS)
_VALUES = ", ".join(f":{name}" for name in _COLUMNS)
_SELECT = f"SELECT {_NAMES} FROM payments "  # noqa: S608 - names of our own dataclass
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
_SAVE = (
    f"INSERT INTO payments ({_NAMES}) VALUES ({_VALUES}) "  # noqa: S608 - the same
    f"ON CONFLICT (psp_reference) DO UPDATE SET {_CHANGES}"
)


def new_psp_reference() -> str:
    """Return 16 random upper-case letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(16))


def save(connection: sqlite3.Connection, payment: Payment) -> None:
    """Write the payment, new or changed."""
    connection.execute(_SAVE, asdict(payment))


def find(connection: sqlite3.Connection, psp_reference: str) -> Payment | None:
    """Return the payment, None if the PSP never saw it."""
    return _payment(connection.execute(_SELECT + "WHERE psp_reference = ?", (psp_reference,)))


def find_by_reference(
    connection: sqlite3.Connection, merchant_account: str, merchant_reference: str
) -> Payment | None:
    """Return the merchant's payment, None if there is none.

    With several attempts under one reference, the newest that still holds money is meant,
    else the newest.
    """
    return _payment(
        connection.execute(
            _SELECT + "WHERE merchant_account = ? AND merchant_reference = ? "
            "ORDER BY authorised > cancelled DESC, rowid DESC LIMIT 1",
            (merchant_account, merchant_reference),
        )
    )


def _payment(rows: sqlite3.Cursor) -> Payment | None:
    """Return the first row as a payment, None without rows."""
    row = rows.fetchone()
    if row is None:
        return None
    return replace(Payment(**dict(row)), is_voided=bool(row["is_voided"]))


def void_reference(
    connection: sqlite3.Connection, merchant_account: str, payment_reference: str
) -> None:
    """Remember that a payment never seen must not be authorised when it comes."""
    connection.execute(
        "INSERT OR IGNORE INTO voids (merchant_account, payment_reference) VALUES (?, ?)",
        (merchant_account, payment_reference),
    )


def is_voided_reference(
    connection: sqlite3.Connection, merchant_account: str, payment_reference: str
) -> bool:
    """Return whether the reference was cancelled before its payment came."""
    row = connection.execute(
        "SELECT 1 FROM voids WHERE merchant_account = ? AND payment_reference = ?",
        (merchant_account, payment_reference),
    ).fetchone()
    return row is not None


def add_modification(
    connection: sqlite3.Connection,
    *,
    psp_reference: str,
    payment: Payment | None,
    payment_reference: str,
    kind: str,
    amount: int,
    is_success: bool,
) -> None:
    """Write one modification with its outcome."""
    connection.execute(
        "INSERT INTO modifications "
        "(psp_reference, payment_psp_reference, payment_reference, kind, amount, status) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            psp_reference,
            payment.psp_reference if payment else None,
            payment_reference,
            kind,
            amount,
            "succeeded" if is_success else "refused",
        ),
    )


def _authorise_late(connection: sqlite3.Connection, psp_reference: str) -> bool:
    """Let a refused payment succeed after all, unless it was cancelled meanwhile."""
    payment = find(connection, psp_reference)
    if payment is None or payment.is_voided:
        return False
    save(connection, payment.authorise())
    return True


def _fail_capture(connection: sqlite3.Connection, psp_reference: str) -> bool:
    """Undo a capture that the scheme rejects after the PSP accepted it."""
    row = connection.execute(
        "UPDATE modifications SET status = 'failed' WHERE psp_reference = ? "
        "AND status = 'succeeded' RETURNING payment_psp_reference, amount",
        (psp_reference,),
    ).fetchone()
    payment = find(connection, row["payment_psp_reference"]) if row else None
    if payment is None:
        return False
    save(connection, replace(payment, captured=payment.captured - row["amount"]))
    return True


LATE_EFFECTS: Mapping[str, Callable[[sqlite3.Connection, str], bool]] = MappingProxyType(
    {
        "authorise": _authorise_late,
        "fail_capture": _fail_capture,
    }
)
"""What a scheduled webhook does to the books when it falls due, by the webhook's pspReference.

False means that it no longer applies: the webhook is then dropped, not sent."""
