"""The PSP's Checkout API, version 72 (psp-webhooks.md section 6)."""

from collections.abc import Mapping

from app.domain.money import Money
from app.domain.payment import Payment
from app.errors import GatewayUnavailable
from app.gateways.http import HttpGateway
from app.services.ports import PspAnswer


class AdyenGateway:
    """Asks the PSP. Every modification answers ``received``; the outcome comes by webhook."""

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

    def authorise(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        """Ask for an authorisation with manual capture: the flow asks for the capture itself."""
        method = payment.details["payment_method"]
        body = {
            "merchantAccount": payment.merchant_account,
            "reference": payment.merchant_reference,
            "amount": _amount(payment.amount),
            "paymentMethod": {
                "type": method.get("type", "scheme"),
                "holderName": method.get("holder_name", ""),
                **({"storedPaymentMethodId": token} if (token := method.get("token")) else {}),
            },
            "returnUrl": self._return_url,
            "additionalData": {"manualCapture": "true"},
        }
        return _post(self._http, "/payments", body, idempotency_key, result_field="resultCode")

    def capture(self, payment: Payment, amount: Money, *, idempotency_key: str) -> PspAnswer:
        """Ask for a capture."""
        body = {"amount": _amount(amount)}
        return _modify(self._http, payment, "captures", body, idempotency_key)

    def cancel(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        """Ask to release the hold: by the PSP's reference, else by ours (a technical cancel)."""
        if payment.psp_reference is not None:
            return _modify(self._undo, payment, "cancels", {}, idempotency_key)
        body = {
            "merchantAccount": payment.merchant_account,
            "paymentReference": payment.merchant_reference,
        }
        return _post(self._undo, "/cancels", body, idempotency_key, result_field="status")

    def refund(self, payment: Payment, amount: Money, *, idempotency_key: str) -> PspAnswer:
        """Ask to give back a captured amount."""
        body = {"amount": _amount(amount)}
        return _modify(self._undo, payment, "refunds", body, idempotency_key)

    def reverse(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        """Ask to cancel or refund the full amount, whichever it takes."""
        return _modify(self._undo, payment, "reversals", {}, idempotency_key)


def _modify(
    http: HttpGateway,
    payment: Payment,
    what: str,
    body: Mapping[str, object],
    idempotency_key: str,
) -> PspAnswer:
    return _post(
        http,
        f"/payments/{payment.psp_reference}/{what}",
        {"merchantAccount": payment.merchant_account, **body},
        idempotency_key,
        result_field="status",
    )


def _post(
    http: HttpGateway,
    path: str,
    body: Mapping[str, object],
    idempotency_key: str,
    *,
    result_field: str,
) -> PspAnswer:
    _status, answer = http.post(path, body, idempotency_key=idempotency_key)
    reference, result = answer.get("pspReference"), answer.get(result_field)
    if not isinstance(reference, str) or not isinstance(result, str):
        raise GatewayUnavailable(f"the PSP's answer lacks pspReference or {result_field}")
    return PspAnswer(psp_reference=reference, result=result)


def _amount(money: Money) -> dict[str, object]:
    return {"value": money.amount_minor, "currency": money.currency}
