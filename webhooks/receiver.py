"""POST /webhooks/adyen: verify, store, acknowledge. Nothing else happens here."""

from http import HTTPStatus

from flask import Blueprint, Response, request

from app.errors import WebhookRefused
from app.persistence.tables import Scheme
from webhooks import notifications, signatures
from webhooks.inbox import Inbox, Verified
from webhooks.keyring import Keyring
from webhooks.notifications import Notification
from webhooks.refusals import Refusals

#: What the PSP has accepted since its first receivers; any 2xx would do (psp-webhooks.md section
#: 4).
ACCEPTED = "[accepted]"


def create_blueprint(inbox: Inbox, keyring: Keyring, refusals: Refusals) -> Blueprint:
    """Build the webhook route around the inbox and the accounts' keys."""
    blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")

    @blueprint.post("/adyen")
    def receive() -> Response:
        """Acknowledge what is authentic and on disk: new, duplicate, unknown or unprocessable.

        The PSP's queue is oldest first and blocking, so an authentic webhook is never refused for
        what it says: one that we do not understand is parked by the drain.
        """
        body = request.get_data(cache=False)
        try:
            items = [
                _verify(keyring, notification, request.headers.get("Authorization"))
                for notification in notifications.parse(body)
            ]
        except WebhookRefused as refusal:
            refusals.keep(
                refusal,
                body=body,
                scheme=Scheme.ITEM,
                header_signature=request.headers.get("HmacSignature"),
                remote_address=request.remote_addr,
            )
            raise
        inbox.store(body, items)
        return Response(ACCEPTED, HTTPStatus.OK, mimetype="text/plain")

    return blueprint


def _verify(keyring: Keyring, notification: Notification, authorization: str | None) -> Verified:
    """Verify one item: a valid first item says nothing about the second."""
    account = keyring.account(notification.merchant_account)
    account.check_basic(authorization)
    message = signatures.signing_string(notification.signed_values)
    return Verified(notification, signatures.verify(message, notification.signature, account.keys))
