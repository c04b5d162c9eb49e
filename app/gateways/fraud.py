"""The fraud check."""

from app.domain.saga import Command, Reply
from app.errors import GatewayUnavailable
from app.gateways.http import HttpGateway


class HttpFraudGateway:
    """Asks the fraud check; it answers ``accept`` or ``refuse`` at once."""

    def __init__(self, http: HttpGateway) -> None:
        """Call through ``http``."""
        self._http = http

    def handle(self, command: Command) -> Reply:
        """Carry out a command; see ``Participant``."""
        data = command.data
        body = {
            "payment_id": data["payment_id"],
            "merchant_account": command.merchant_account,
            "merchant_reference": data["merchant_reference"],
            "amount": {"value": data["amount_minor"], "currency": data["currency"]},
            "shopper": data["shopper"],
        }
        _status, answer = self._http.post(
            "/fraud/checks", body, idempotency_key=command.idempotency_key
        )
        decision = answer.get("decision")
        if decision not in {"accept", "refuse"}:
            raise GatewayUnavailable("the fraud check's answer is neither accept nor refuse")
        reason = answer.get("reason")
        evidence = {"decision": decision, **({"reason": reason} if reason else {})}
        return Reply(success=decision == "accept", data=evidence)
