"""Use case: start a payment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.clock import Clock
from app.domain.money import Money
from app.domain.payment import CaptureMode, Change, EventKind, Payment, PaymentEvent, begin
from app.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from app.services.ports import KeyHolder, NewId, StoredAnswer, UnitOfWork, UnitOfWorkFactory

#: How long a request may hold its key without an answer, beyond what the caller asked to wait. A
#: request that died frees its key after this.
LEASE_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPayment:
    """What a merchant's checkout asks for.

    Attributes:
        fingerprint: Digest of the request; the same key with another fingerprint is refused.
        wait_seconds: How long the caller will wait for a rest state; 0 answers at once.
    """

    merchant_account: str
    idempotency_key: str
    fingerprint: bytes
    merchant_reference: str
    amount: Money
    capture: CaptureMode
    details: Mapping[str, Mapping[str, str]]
    wait_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The payment that the key stands for, and the answer if it was given already."""

    payment: Payment | None
    replayed: StoredAnswer | None


def start_payment(
    command: StartPayment,
    *,
    answer_now: Callable[[Payment], StoredAnswer] | None,
    unit_of_work: UnitOfWorkFactory,
    clock: Clock,
    new_id: NewId,
) -> Started:
    """Store the key, the payment and its saga in one commit; the saga does the rest.

    Two requests with one key, at once or one after the other, on one host or two, start one
    payment: the second waits for the first one's commit and then finds the key taken.

    Args:
        command: What to start.
        answer_now: Makes the answer to keep with the key in the same commit; None if the caller
            waits, and keeps the answer later (``keep_answer``).
        unit_of_work: Opens the transaction.
        clock: The time of the payment's first event.
        new_id: Makes the payment's id.

    Raises:
        IdempotencyKeyReused: The key was used for another request; noted on that payment's
            timeline.
        IdempotencyKeyInFlight: The first request with this key is still running.
        MerchantReferenceTaken: Another key started a payment under this reference.
        StoreUnavailable: Nothing is stored.
    """
    now = clock.now()
    lease_until = now + timedelta(seconds=command.wait_seconds + LEASE_SECONDS)
    payment_id = new_id()
    with unit_of_work() as uow:
        holder = uow.idempotency.claim(
            command.merchant_account,
            command.idempotency_key,
            fingerprint=command.fingerprint,
            payment_id=payment_id,
            now=now,
            lease_until=lease_until,
        )
        if holder is not None:
            return _again(
                command, holder, uow, now=now, lease_until=lease_until, answer_now=answer_now
            )
        started = PaymentEvent(kind=EventKind.STARTED, at=now, cause="api", data=_data(command))
        payment = begin(payment_id, started)
        uow.payments.add(Change(payment=payment, at=now, cause="api", events=[started]))
        uow.sagas.start(payment, now=now)
        if answer_now is not None:
            uow.idempotency.answer(
                command.merchant_account, command.idempotency_key, answer_now(payment)
            )
        uow.commit()
    return Started(payment=payment, replayed=None)


def keep_answer(
    merchant_account: str, key: str, answer: StoredAnswer, *, unit_of_work: UnitOfWorkFactory
) -> StoredAnswer:
    """Keep the answer of a request that waited, for those who send it again.

    Returns:
        The answer that is kept: another request's, if it took this one for dead and was quicker.
    """
    with unit_of_work() as uow:
        kept = uow.idempotency.answer(merchant_account, key, answer)
        uow.commit()
    return kept


def _again(
    command: StartPayment,
    holder: KeyHolder,
    uow: UnitOfWork,
    *,
    now: datetime,
    lease_until: datetime,
    answer_now: Callable[[Payment], StoredAnswer] | None,
) -> Started:
    if holder.fingerprint != command.fingerprint:
        _note_reuse(holder, uow, now=now)
        uow.commit()
        raise IdempotencyKeyReused
    if holder.answer is not None:
        return Started(payment=None, replayed=holder.answer)
    if holder.lease_until > now:
        raise IdempotencyKeyInFlight
    # The first request died before it answered: this one finishes it.
    payment = uow.payments.get_for_update(holder.payment_id)
    account, key = command.merchant_account, command.idempotency_key
    if answer_now is not None:
        uow.idempotency.answer(account, key, answer_now(payment))
    else:
        uow.idempotency.extend(account, key, lease_until=lease_until)
    uow.commit()
    return Started(payment=payment, replayed=None)


def _note_reuse(holder: KeyHolder, uow: UnitOfWork, *, now: datetime) -> None:
    payment = uow.payments.get_for_update(holder.payment_id)
    change = Change(payment=payment, at=now, cause="api")
    change.add(EventKind.NOTED, {"note": IdempotencyKeyReused.code})
    uow.payments.save(change)


def _data(command: StartPayment) -> dict[str, object]:
    return {
        "merchant_account": command.merchant_account,
        "merchant_reference": command.merchant_reference,
        "amount_minor": command.amount.amount_minor,
        "currency": command.amount.currency,
        "capture": command.capture.value,
        "details": command.details,
    }
