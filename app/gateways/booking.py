"""The booking service."""

from collections.abc import Mapping
from http import HTTPStatus

from app.domain.payment import Payment
from app.gateways.http import HttpGateway
from app.services.ports import Verdict


class HttpBookingGateway:
    """Confirms and cancels bookings.

    The service's side of it: ``POST /bookings/confirmations`` answers 200, or 409 if it says no;
    ``POST /bookings/cancellations`` answers 200 whether or not the booking was ever confirmed.
    """

    def __init__(self, http: HttpGateway) -> None:
        """Call through ``http``."""
        self._http = http

    def confirm(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        """Ask to confirm the payment's booking."""
        body = {
            "reference": payment.details["booking"]["reference"],
            "payment_id": str(payment.payment_id),
            "amount": {
                "value": payment.amount.amount_minor,
                "currency": payment.amount.currency,
            },
        }
        return self._ask("/bookings/confirmations", body, idempotency_key)

    def cancel(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        """Ask to cancel the booking, whether or not it was confirmed."""
        body = {
            "reference": payment.details["booking"]["reference"],
            "payment_id": str(payment.payment_id),
        }
        return self._ask("/bookings/cancellations", body, idempotency_key)

    def _ask(self, path: str, body: Mapping[str, object], idempotency_key: str) -> Verdict:
        status, answer = self._http.post(
            path,
            body,
            idempotency_key=idempotency_key,
            also_answers=frozenset({HTTPStatus.CONFLICT}),
        )
        evidence = {
            name: answer[name]
            for name in ("status", "confirmation_id", "reason")
            if isinstance(answer.get(name), str)
        }
        return Verdict(is_yes=status != HTTPStatus.CONFLICT, evidence=evidence)
