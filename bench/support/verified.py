"""What the variants share with the receiver: its check of the signature, and what is stored."""

from app.bootstrap import Container
from app.persistence.tables import Scheme
from webhooks import notifications, signatures

#: Of each process, for the keys alone. All variants together stay below Postgres' limit of 100.
KEYRING_CONNECTIONS = 4


def verified_rows(
    container: Container, body: bytes, authorization: str | None
) -> list[dict[str, object]]:
    """Return the row of each item, verified as ``webhooks.receiver`` does it.

    Raises:
        WebhookRefused: Not authentic.
    """
    return [_row(container, item, body, authorization) for item in notifications.parse(body)]


def _row(
    container: Container, item: notifications.Notification, body: bytes, authorization: str | None
) -> dict[str, object]:
    account = container.keyring.account(item.merchant_account)
    account.check_basic(authorization)
    message = signatures.signing_string(item.signed_values)
    key_id, *_ = signatures.verify(message, item.signature, account.keys)
    now = container.clock.now()
    return {
        "guid": item.guid,
        "merchant_account": item.merchant_account,
        "event_code": item.event_code,
        "success": item.success,
        "psp_reference": item.psp_reference,
        "original_reference": item.original_reference,
        "merchant_reference": item.merchant_reference,
        "body": body,
        "is_live": item.is_live,
        "scheme": Scheme.ITEM.value,
        "hmac_key_id": key_id,
        "event_date": item.event_date or now,
        "received_at": now,
    }
