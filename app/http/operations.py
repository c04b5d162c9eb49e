"""What operators do to payments over HTTP, and the desk that they do it from."""

from typing import Annotated
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from app.clock import Clock
from app.domain.access import Caller, Role
from app.domain.flow import FlowState
from app.domain.operators import Grounds, check_name
from app.http.auth import Authenticate, require
from app.http.schemas import read_body
from app.queries.payments import get_payment, payment_json
from app.queries.reviews import open_reviews
from app.services.operate import Operation, Remedy, operate
from app.services.ports import UnitOfWorkFactory
from app.services.review_ports import Recovery

#: Who may look at the desk.
VIEWERS = (Role.OPERATOR, Role.APPROVER, Role.AUDITOR)


class ActionBody(BaseModel):
    """The body of ``POST /payments/{id}/actions``.

    Attributes:
        to: Where ``force`` ends the payment.
        by: The person, if the key is not theirs alone; the key is named beside them.
        version: The payment's version that was looked at; refused if it is another by now.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    action: Annotated[Remedy, Field(strict=False)]
    reason: str
    to: Annotated[FlowState | None, Field(strict=False)] = None
    by: str | None = None
    version: Annotated[int | None, Field(ge=1)] = None

    def grounds(self, caller: Caller) -> Grounds:
        """Return who acts, by their key at least, and why."""
        key = f"API key {caller.key_prefix}"
        if self.by is None:
            return Grounds(key, self.reason.strip())
        check_name("by", self.by)
        return Grounds(f"{self.by.strip()} ({key})", self.reason.strip())


def create_blueprint(
    *,
    authenticate: Authenticate,
    engine: Engine,
    unit_of_work: UnitOfWorkFactory,
    recovery: Recovery,
    clock: Clock,
) -> Blueprint:
    """Build the operators' routes.

    Args:
        authenticate: Looks API keys up.
        engine: Read from here.
        unit_of_work: Actions are carried out in here.
        recovery: Says what they mean for the saga's steps.
        clock: The time.
    """
    blueprint = Blueprint("operations", __name__)

    @blueprint.post("/payments/<uuid:payment_id>/actions")
    def act(payment_id: UUID) -> Response:
        caller = require(authenticate, Role.OPERATOR)
        body, _plain = read_body(request, ActionBody)
        operation = Operation(
            payment_id=payment_id,
            remedy=body.action,
            grounds=body.grounds(caller),
            to=body.to,
            version=body.version,
        )
        with engine.connect() as connection:
            get_payment(connection, payment_id, merchant_account=caller.merchant_account)
        payment = operate(operation, unit_of_work=unit_of_work, recovery=recovery, clock=clock)
        return jsonify(payment_json(payment))

    @blueprint.get("/reviews")
    def list_() -> Response:
        caller = require(authenticate, *VIEWERS)
        with engine.connect() as connection:
            found = open_reviews(
                connection,
                now=clock.now(),
                merchant_account=caller.merchant_account,
                owner=_owner(),
            )
        return jsonify({"items": found})

    return blueprint


def _owner() -> str | None:
    """Read whose desk is asked for; a name that no row can hold is refused by name."""
    owner = request.args.get("owner") or None
    if owner is not None:
        check_name("owner", owner)
    return owner
