"""The booking service."""

from collections.abc import Mapping
from http import HTTPStatus

from app.domain.saga import Command, Reply
from app.gateways.http import HttpGateway

_PATHS = {"confirm": "/bookings/confirmations", "cancel": "/bookings/cancellations"}


class HttpBookingGateway:
    """Confirms and cancels bookings.

    The service's side of it: ``POST /bookings/confirmations`` answers 200, or 409 if it says no;
    ``POST /bookings/cancellations`` answers 200 whether or not the booking was ever confirmed.
    """

    def __init__(self, http: HttpGateway, *, undo: HttpGateway) -> None:
        """Call the service.

        Args:
            http: Takes confirmations.
            undo: Takes cancellations, so that failing confirmations never hold those up.
        """
        self._by_operation: Mapping[str, HttpGateway] = {"confirm": http, "cancel": undo}

    def handle(self, command: Command) -> Reply:
        """Carry out a command; see ``Participant``."""
        data = command.data
        body = {"reference": data["booking_reference"], "payment_id": data["payment_id"]}
        if "amount_minor" in data:
            body["amount"] = {"value": data["amount_minor"], "currency": data["currency"]}
        status, answer = self._by_operation[command.operation].post(
            _PATHS[command.operation],
            body,
            idempotency_key=command.idempotency_key,
            also_answers=frozenset({HTTPStatus.CONFLICT}),
        )
        evidence = {
            name: answer[name]
            for name in ("status", "confirmation_id", "reason")
            if isinstance(answer.get(name), str)
        }
        return Reply(success=status != HTTPStatus.CONFLICT, data=evidence)
