"""The Checkout API's modifications: received at once, judged by the books, told by webhook."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from simulator import clock, ledger, notifications, orders, outbox
from simulator.idempotency import Answer, Outcome
from simulator.orders import CheckoutRefusal
from simulator.payments import OPERATIONS, TECHNICAL_CANCEL, Amount, Operation, Payment, Verdict
from simulator.triggers import behaviour_of
from simulator.world import World

CAPTURE_FAILED_REASON = "Capture failed: rejected by the scheme"


def modify(
    world: World,
    connection: sqlite3.Connection,
    body: Mapping[str, Any],
    payment_psp_reference: str,
    path: str,
) -> Outcome:
    """Do what ``POST /payments/{psp}/{path}`` asks.

    Raises:
        CheckoutRefusal: The body is incomplete or the payment unknown.
    """
    operation = OPERATIONS[path]
    account = orders.parse_merchant_account(body, world.settings.merchant_account)
    amount = orders.parse_amount(body) if operation.has_amount else None
    reference = orders.parse_own_reference(body)
    payment = ledger.find(connection, payment_psp_reference)
    if payment is None:
        raise CheckoutRefusal(422, "167", "Original pspReference required for this operation")
    psp_reference = ledger.new_psp_reference()
    _apply(
        world,
        connection,
        payment,
        operation,
        amount=amount,
        psp_reference=psp_reference,
        reference=reference or payment.merchant_reference,
    )
    received = {"merchantAccount": account, "paymentPspReference": payment.psp_reference}
    return Outcome(_received(received, psp_reference, reference, amount))


def cancel_by_reference(
    world: World, connection: sqlite3.Connection, body: Mapping[str, Any]
) -> Outcome:
    """Do what ``POST /cancels`` asks, also for a payment that has not come yet.

    Raises:
        CheckoutRefusal: The body is incomplete.
    """
    account = orders.parse_merchant_account(body, world.settings.merchant_account)
    payment_reference = orders.parse_payment_reference(body)
    reference = orders.parse_own_reference(body)
    payment = ledger.find_by_reference(connection, account, payment_reference)
    psp_reference = ledger.new_psp_reference()
    if payment is None:
        _void_unseen(world, connection, payment_reference, psp_reference)
    else:
        _apply(
            world,
            connection,
            payment,
            TECHNICAL_CANCEL,
            amount=None,
            psp_reference=psp_reference,
            reference=payment.merchant_reference,
        )
    received = {"merchantAccount": account, "paymentReference": payment_reference}
    return Outcome(_received(received, psp_reference, reference, None))


def _received(
    identity: Mapping[str, str], psp_reference: str, reference: str | None, amount: Amount | None
) -> Answer:
    """Return the 201 that says nothing about the outcome."""
    body: dict[str, Any] = {**identity, "pspReference": psp_reference, "status": "received"}
    if reference is not None:
        body["reference"] = reference
    if amount is not None:
        body["amount"] = {"value": amount.value, "currency": amount.currency}
    return Answer(201, json.dumps(body))


def _apply(
    world: World,
    connection: sqlite3.Connection,
    payment: Payment,
    operation: Operation,
    *,
    amount: Amount | None,
    psp_reference: str,
    reference: str,
) -> None:
    """Change the books as the operation's rule says and queue the outcome."""
    verdict = operation.rule(payment, amount)
    ledger.save(connection, verdict.after)
    ledger.add_modification(
        connection,
        psp_reference=psp_reference,
        payment=payment,
        payment_reference=payment.merchant_reference,
        kind=operation.kind,
        amount=verdict.amount,
        is_success=verdict.is_success,
    )
    now = clock.now()
    item = notifications.modification(
        payment,
        operation.event_code,
        psp_reference=psp_reference,
        reference=reference,
        amount=verdict.amount,
        is_success=verdict.is_success,
        reason=verdict.reason,
        at=now,
    )
    if operation.kind == "reversal":
        item["additionalData"]["modification.action"] = verdict.action
    key = world.settings.hmac_key
    outbox.queue(connection, item, hmac_key=key, payment_reference=payment.merchant_reference)
    if operation.kind == "capture":
        _schedule_capture_failure(world, connection, payment, verdict, item, at=now)


def _schedule_capture_failure(
    world: World,
    connection: sqlite3.Connection,
    payment: Payment,
    verdict: Verdict,
    capture_item: Mapping[str, Any],
    *,
    at: float,
) -> None:
    """Queue the failure of a successful capture, if the payment asks for it."""
    delay = behaviour_of(payment.holder_name).capture_fails_after_seconds
    if delay is None or not verdict.is_success:
        return
    item = {
        **capture_item,
        "eventCode": "CAPTURE_FAILED",
        "eventDate": clock.event_date(at + delay),
        "reason": CAPTURE_FAILED_REASON,
    }
    outbox.queue(
        connection,
        item,
        hmac_key=world.settings.hmac_key,
        payment_reference=payment.merchant_reference,
        delays=(delay,),
        effect="fail_capture",
    )


def _void_unseen(
    world: World, connection: sqlite3.Connection, payment_reference: str, psp_reference: str
) -> None:
    """Remember the void and say that it took effect."""
    account = world.settings.merchant_account
    ledger.void_reference(connection, account, payment_reference)
    ledger.add_modification(
        connection,
        psp_reference=psp_reference,
        payment=None,
        payment_reference=payment_reference,
        kind=TECHNICAL_CANCEL.kind,
        amount=0,
        is_success=True,
    )
    item = notifications.void_of_unseen(
        psp_reference=psp_reference,
        merchant_account=account,
        payment_reference=payment_reference,
        at=clock.now(),
    )
    outbox.queue(
        connection,
        item,
        hmac_key=world.settings.hmac_key,
        payment_reference=payment_reference,
    )
