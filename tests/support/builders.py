"""What tests are made of: payments, facts, webhooks. Every argument has an ordinary default."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from app.domain.flow import FlowState
from app.domain.funds import Fact, FactKind, Funds
from app.domain.identifiers import message_id
from app.domain.money import Money
from app.domain.payment import CaptureMode, EventKind, Payment, PaymentEvent
from app.domain.saga import Command, Direction, Request, StepRecord, StepStatus
from app.services.start_payment import StartPayment
from webhooks.notifications import parse
from webhooks.signatures import sign, signing_string

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ACCOUNT = "CountersignECOM"
HMAC_KEY = bytes.fromhex("44" * 32)
OTHER_HMAC_KEY = bytes.fromhex("55" * 32)
PSP_REFERENCE = "8816178914079738"
PAYMENT_ID = UUID("0199a000-0000-7000-8000-000000000001")
EUR_125 = Money(12500, "EUR")

DETAILS: Mapping[str, Mapping[str, str]] = {
    "payment_method": {"type": "scheme", "holder_name": "S Hopper"},
    "shopper": {"email": "s.hopper@example.com"},
    "booking": {"reference": "BK-1001"},
}


def a_payment(
    *,
    payment_id: UUID = PAYMENT_ID,
    state: FlowState = FlowState.PREAUTH,
    capture: CaptureMode = CaptureMode.MANUAL,
    facts: tuple[Fact, ...] = (),
    psp_reference: str | None = None,
    reason: str | None = None,
    amount: Money = EUR_125,
) -> Payment:
    return Payment(
        payment_id=payment_id,
        merchant_account=ACCOUNT,
        merchant_reference="ORDER-1001",
        amount=amount,
        capture=capture,
        details=DETAILS,
        psp_reference=psp_reference,
        state=state,
        reason=reason,
        funds=Funds.of(facts),
        version=1,
        created_at=NOW,
        updated_at=NOW,
    )


def a_fact(
    kind: FactKind = FactKind.AUTHORISED,
    *,
    reference: str = PSP_REFERENCE,
    amount_minor: int = 12500,
    occurred_at: datetime = NOW,
    is_repeat: bool = False,
    payment_reference: str | None = None,
) -> Fact:
    return Fact(
        kind=kind,
        reference=reference,
        amount_minor=amount_minor,
        occurred_at=occurred_at,
        is_repeat=is_repeat,
        payment_reference=payment_reference,
    )


def a_start(
    *,
    key: str = "key-1",
    merchant_reference: str = "ORDER-1001",
    fingerprint: bytes = b"f" * 32,
    capture: CaptureMode = CaptureMode.MANUAL,
    wait_seconds: int = 0,
    booking: str = "BK-1001",
) -> StartPayment:
    return StartPayment(
        merchant_account=ACCOUNT,
        idempotency_key=key,
        fingerprint=fingerprint,
        merchant_reference=merchant_reference,
        amount=EUR_125,
        capture=capture,
        details={**DETAILS, "booking": {"reference": booking}},
        wait_seconds=wait_seconds,
    )


def a_start_body(**overrides: object) -> dict[str, object]:
    """The JSON body of ``POST /payments``."""
    body: dict[str, object] = {
        "merchant_reference": "ORDER-1001",
        "amount": {"value": 12500, "currency": "EUR"},
        "payment_method": {"type": "scheme", "holder_name": "S Hopper"},
        "shopper": {"email": "s.hopper@example.com"},
        "booking": {"reference": "BK-1001"},
    }
    return body | overrides


def an_item(
    event_code: str = "AUTHORISATION",
    *,
    success: bool = True,
    psp_reference: str = PSP_REFERENCE,
    original_reference: str | None = None,
    merchant_reference: str = "ORDER-1001",
    merchant_account: str = ACCOUNT,
    amount_minor: int = 12500,
    currency: str = "EUR",
    event_date: str = "2026-11-20T10:00:00+01:00",
    reason: str = "",
    additional: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """An unsigned item of a standard webhook."""
    item: dict[str, object] = {
        "pspReference": psp_reference,
        "merchantAccountCode": merchant_account,
        "merchantReference": merchant_reference,
        "amount": {"value": amount_minor, "currency": currency},
        "eventCode": event_code,
        "success": "true" if success else "false",
        "eventDate": event_date,
        "paymentMethod": "visa",
        "reason": reason,
        "additionalData": dict(additional or {}),
    }
    if original_reference is not None:
        item["originalReference"] = original_reference
    return item


def signed(item: Mapping[str, object], key: bytes = HMAC_KEY) -> dict[str, object]:
    """The item with its signature."""
    [notification] = parse(unsigned_webhook(item))
    data = item.get("additionalData")
    additional = dict(data) if isinstance(data, Mapping) else {}
    additional["hmacSignature"] = sign(signing_string(notification.signed_values), key)
    return {**item, "additionalData": additional}


def a_webhook(*items: Mapping[str, object], key: bytes = HMAC_KEY) -> bytes:
    """The body of a signed standard webhook; of one AUTHORISATION by default."""
    return unsigned_webhook(*(signed(item, key) for item in items or (an_item(),)))


def unsigned_webhook(*items: Mapping[str, object]) -> bytes:
    """The body of a standard webhook whose items are sent as they are."""
    wrapped = [{"NotificationRequestItem": item} for item in items]
    return json.dumps({"live": "false", "notificationItems": wrapped}).encode()


def numbered_id(number: int) -> UUID:
    """A made-up identifier that is the same in every run."""
    return uuid5(PAYMENT_ID, str(number))


def later(seconds: float) -> datetime:
    """The time ``seconds`` after NOW; before it if negative."""
    return NOW + timedelta(seconds=seconds)


def a_started_event(*, capture: CaptureMode = CaptureMode.MANUAL) -> PaymentEvent:
    """The first event of a payment that a merchant started."""
    return PaymentEvent(
        kind=EventKind.STARTED,
        at=NOW,
        cause="api",
        data={
            "merchant_account": ACCOUNT,
            "merchant_reference": "ORDER-1001",
            "amount_minor": EUR_125.amount_minor,
            "currency": EUR_125.currency,
            "capture": capture.value,
            "details": DETAILS,
        },
    )


def a_step_record(
    step: str = FlowState.PREAUTH,
    direction: Direction = Direction.ACT,
    status: StepStatus = StepStatus.ASKED,
    *,
    round_: int = 1,
    attempts: int = 1,
    request: str | None = None,
    started_at: datetime = NOW,
    asked_at: datetime | None = None,
    due: datetime | None = None,
    response: Mapping[str, object] | None = None,
) -> StepRecord:
    return StepRecord(
        step=step,
        direction=direction,
        status=status,
        round=round_,
        attempts=attempts,
        request=request,
        response=response or {},
        started_at=started_at,
        asked_at=asked_at or started_at,
        due=due,
    )


def a_command(request: Request, *, key: str = "key") -> Command:
    """The message that carries a request to its participant."""
    return Command(
        message_id=message_id(key),
        saga_id=PAYMENT_ID,
        service_id=request.service_id,
        operation=request.operation,
        idempotency_key=key,
        merchant_account=ACCOUNT,
        data=request.data,
        timestamp=NOW,
    )
