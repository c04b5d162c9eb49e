"""The Checkout API's payments: authorise, and tell of it by webhook."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from simulator import clock, idempotency, ledger, notifications, outbox, payments
from simulator.idempotency import Answer, Outcome
from simulator.orders import CheckoutRefusal, parse_order
from simulator.triggers import Behaviour, behaviour_of
from simulator.world import World

OUTAGE_SCOPE = "psp"
DOWN = CheckoutRefusal(503, "000", "Service temporarily unavailable", "internal")


def authorise(
    world: World, connection: sqlite3.Connection, body: Mapping[str, Any], key: str | None
) -> Outcome:
    """Authorise or refuse a new payment and queue the webhook that says so.

    Raises:
        CheckoutRefusal: The body is not a payment.
    """
    order = parse_order(body, world.settings.merchant_account)
    behaviour = behaviour_of(order.holder_name)
    outage_key = key or f"reference {order.reference}"
    if behaviour.outages and idempotency.meets_outage(
        connection, OUTAGE_SCOPE, outage_key, times=behaviour.outages
    ):
        return Outcome(Answer(DOWN.status, json.dumps(DOWN.to_json())), is_processed=False)

    is_voided = ledger.is_voided_reference(connection, order.merchant_account, order.reference)
    payment = payments.Payment(
        psp_reference=ledger.new_psp_reference(),
        merchant_account=order.merchant_account,
        merchant_reference=order.reference,
        payment_method=order.payment_method,
        holder_name=order.holder_name,
        currency=order.amount.currency,
        requested=order.amount.value,
        is_voided=is_voided,
    )
    refusal_reason = payments.CANCELLED if is_voided else "Refused" * behaviour.is_declined
    if not refusal_reason:
        payment = payment.authorise()
    ledger.save(connection, payment)
    webhook_id = _queue_authorisation(world, connection, payment, behaviour, refusal_reason)
    answer = Answer(200, json.dumps(_authorisation_body(payment, refusal_reason)))
    return Outcome(answer, behaviour.reply, webhook_id)


def _authorisation_body(payment: payments.Payment, refusal_reason: str) -> dict[str, Any]:
    """Return the response body of ``POST /payments``."""
    body: dict[str, Any] = {
        "pspReference": payment.psp_reference,
        "resultCode": "Refused" if refusal_reason else "Authorised",
        "amount": {"value": payment.requested, "currency": payment.currency},
        "merchantReference": payment.merchant_reference,
    }
    if refusal_reason:
        body["refusalReason"] = refusal_reason
    return body


def _queue_authorisation(
    world: World,
    connection: sqlite3.Connection,
    payment: payments.Payment,
    behaviour: Behaviour,
    refusal_reason: str,
) -> int:
    """Queue the AUTHORISATION webhook, and the later success of a false refusal."""
    now = clock.now()
    item = notifications.authorisation(
        payment,
        is_success=not refusal_reason,
        reason=refusal_reason or notifications.AUTHORISED_REASON,
        at=now,
    )
    webhook_id = outbox.queue(
        connection,
        item,
        hmac_key=world.settings.hmac_key,
        payment_reference=payment.merchant_reference,
        delays=behaviour.delays(world.settings.late_webhook_seconds),
    )
    if behaviour.true_after_seconds is not None and not payment.is_voided:
        later = notifications.authorisation(
            payment,
            is_success=True,
            reason=notifications.AUTHORISED_REASON,
            at=now + behaviour.true_after_seconds,
        )
        outbox.queue(
            connection,
            later,
            hmac_key=world.settings.hmac_key,
            payment_reference=payment.merchant_reference,
            delays=(behaviour.true_after_seconds,),
            effect="authorise",
        )
    return webhook_id
