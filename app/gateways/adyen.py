"""The PSP's Checkout API, version 72 (psp-webhooks.md section 6)."""

from collections.abc import Callable, Mapping

from app.domain.saga import Command, Reply
from app.errors import GatewayRejected, GatewayUnavailable
from app.gateways.http import HttpGateway


class AdyenGateway:
    """Carries out commands at the PSP.

    Every modification answers ``received``; the outcome comes by webhook, and so does that of an
    authorisation, whatever its answer says.
    """

    def __init__(self, http: HttpGateway, *, undo: HttpGateway, return_url: str) -> None:
        """Call an address that ends in the API's version.

        Args:
            http: Takes what asks for money.
            undo: Takes what gives it back, so that failing authorisations never hold that up.
            return_url: Where the PSP sends the shopper back.
        """
        self._http = http
        self._undo = undo
        self._return_url = return_url
        self._operations: Mapping[str, Callable[[Command], Reply]] = {
            "authorise": self._authorise,
            "capture": self._capture,
            "cancel": self._cancel,
            "refund": self._refund,
            "reverse": self._reverse,
        }

    def handle(self, command: Command) -> Reply:
        """Carry out a command; see ``Participant``."""
        return self._operations[command.operation](command)

    def _authorise(self, command: Command) -> Reply:
        """Ask for an authorisation with manual capture: the flow asks for the capture itself."""
        data, method = command.data, command.data["payment_method"]
        if not isinstance(method, Mapping):
            raise GatewayRejected("the command names no payment method")
        body = {
            "reference": data["merchant_reference"],
            "amount": _amount(data),
            "paymentMethod": {
                "type": method.get("type", "scheme"),
                "holderName": method.get("holder_name", ""),
                **({"storedPaymentMethodId": token} if (token := method.get("token")) else {}),
            },
            "returnUrl": self._return_url,
            "additionalData": {"manualCapture": "true"},
        }
        return _post(self._http, "/payments", body, command, result_field="resultCode")

    def _capture(self, command: Command) -> Reply:
        return _modify(self._http, "captures", {"amount": _amount(command.data)}, command)

    def _cancel(self, command: Command) -> Reply:
        """Ask to release the hold: by the PSP's reference, else by ours (a technical cancel)."""
        if command.data.get("psp_reference") is not None:
            return _modify(self._undo, "cancels", {}, command)
        body = {"paymentReference": command.data["merchant_reference"]}
        return _post(self._undo, "/cancels", body, command, result_field="status")

    def _refund(self, command: Command) -> Reply:
        return _modify(self._undo, "refunds", {"amount": _amount(command.data)}, command)

    def _reverse(self, command: Command) -> Reply:
        """Ask to cancel or refund the full amount, whichever it takes."""
        return _modify(self._undo, "reversals", {}, command)


def _modify(http: HttpGateway, what: str, body: Mapping[str, object], command: Command) -> Reply:
    path = f"/payments/{command.data['psp_reference']}/{what}"
    return _post(http, path, body, command, result_field="status")


def _post(
    http: HttpGateway,
    path: str,
    body: Mapping[str, object],
    command: Command,
    *,
    result_field: str,
) -> Reply:
    body = {"merchantAccount": command.merchant_account, **body}
    _status, answer = http.post(path, body, idempotency_key=command.idempotency_key)
    reference, result = answer.get("pspReference"), answer.get(result_field)
    if not isinstance(reference, str) or not isinstance(result, str):
        raise GatewayUnavailable(f"the PSP's answer lacks pspReference or {result_field}")
    return Reply(success=True, data={"psp_reference": reference, "result": result})


def _amount(data: Mapping[str, object]) -> dict[str, object]:
    return {"value": data["amount_minor"], "currency": data["currency"]}
