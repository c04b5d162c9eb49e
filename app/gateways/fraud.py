"""The fraud check."""

from app.domain.payment import Payment
from app.errors import GatewayUnavailable
from app.gateways.http import HttpGateway
from app.services.ports import Verdict


class HttpFraudGateway:
    """Asks the fraud check; it answers ``accept`` or ``refuse`` at once."""

    def __init__(self, http: HttpGateway) -> None:
        """Call through ``http``."""
        self._http = http

    def check(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        """Ask whether the payment may go on."""
        body = {
            "payment_id": str(payment.payment_id),
            "merchant_account": payment.merchant_account,
            "merchant_reference": payment.merchant_reference,
            "amount": {
                "value": payment.amount.amount_minor,
                "currency": payment.amount.currency,
            },
            "shopper": {"email": payment.details["shopper"]["email"]},
        }
        _status, answer = self._http.post("/fraud/checks", body, idempotency_key=idempotency_key)
        decision = answer.get("decision")
        if decision not in {"accept", "refuse"}:
            raise GatewayUnavailable("the fraud check's answer is neither accept nor refuse")
        reason = answer.get("reason")
        evidence = {"decision": decision, **({"reason": reason} if reason else {})}
        return Verdict(is_yes=decision == "accept", evidence=evidence)
