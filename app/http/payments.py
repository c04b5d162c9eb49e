"""The merchant API: start a payment, look at payments."""

import json
import logging
import re
from contextlib import suppress
from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import Engine

from app.clock import Clock
from app.domain.access import Role
from app.domain.flow import REST_STATES, FlowState
from app.domain.money import Money
from app.domain.payment import Payment
from app.errors import InvalidFields, PaymentNotFound, StoreUnavailable
from app.http.auth import Authenticate, require
from app.http.idempotency import answer_of, fingerprint, idempotency_key
from app.http.schemas import StartPaymentBody, is_printable, read_body
from app.http.waiters import Waited, Waiters
from app.queries.payments import Json, PaymentFilter, get_payment, list_payments, payment_json
from app.queries.timeline import timeline
from app.services.ports import NewId, StoredAnswer, UnitOfWorkFactory
from app.services.start_payment import StartPayment, keep_answer, start_payment

WAIT_SECONDS_MAX = 30
PAGE_ITEMS_MAX = 200

_log = logging.getLogger(__name__)

_LIMIT = re.compile(r"[0-9]{1,9}")
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?:$|[,;\s])", re.IGNORECASE)


def create_blueprint(
    *,
    authenticate: Authenticate,
    engine: Engine,
    unit_of_work: UnitOfWorkFactory,
    clock: Clock,
    new_id: NewId,
    waiters: Waiters,
) -> Blueprint:
    """Build the payment routes.

    Args:
        authenticate: Looks API keys up.
        engine: Payments are read from here.
        unit_of_work: Payments are started in here.
        clock: The time.
        new_id: Makes ids.
        waiters: Where requests wait that asked for it; one that may not is answered at once.
    """
    blueprint = Blueprint("payments", __name__, url_prefix="/payments")

    @blueprint.post("")
    def start() -> Response:
        caller = require(authenticate, Role.MERCHANT)
        key = idempotency_key(request)
        body, plain = read_body(request, StartPaymentBody)
        wait_seconds = _wait_seconds()
        command = StartPayment(
            merchant_account=caller.merchant_account,
            idempotency_key=key,
            fingerprint=fingerprint(request, plain),
            merchant_reference=body.merchant_reference,
            amount=Money(body.amount.value, body.amount.currency),
            capture=body.capture,
            details=body.details(),
            wait_seconds=wait_seconds,
        )
        started = start_payment(
            command,
            answer_now=None if wait_seconds else _accepted,
            unit_of_work=unit_of_work,
            clock=clock,
            new_id=new_id,
        )
        if started.replayed is not None:
            return answer_of(started.replayed, replayed=True)
        payment = started.payment
        if payment is None:
            raise PaymentNotFound
        if not wait_seconds:
            return answer_of(_accepted(payment), replayed=False)
        waited = waiters.wait(payment, wait_seconds)
        answer = _kept(waited, caller.merchant_account, key, unit_of_work=unit_of_work)
        response = answer_of(answer, replayed=False)
        if waited.has_waited:
            response.headers["Preference-Applied"] = f"wait={wait_seconds}"
        return response

    @blueprint.get("")
    def list_() -> Response:
        caller = require(authenticate, *Role)
        wanted = _filter(caller.merchant_account)
        with engine.connect() as connection:
            return jsonify(list_payments(connection, wanted))

    @blueprint.get("/<payment_id>")
    def show(payment_id: str) -> Response:
        caller = require(authenticate, *Role)
        with engine.connect() as connection:
            found = get_payment(
                connection, _id(payment_id), merchant_account=caller.merchant_account
            )
            return jsonify(found)

    @blueprint.get("/<payment_id>/timeline")
    def show_timeline(payment_id: str) -> Response:
        caller = require(authenticate, *Role)
        with engine.connect() as connection:
            get_payment(connection, _id(payment_id), merchant_account=caller.merchant_account)
            return jsonify(timeline(connection, _id(payment_id)))

    return blueprint


def _accepted(payment: Payment) -> StoredAnswer:
    return _answer(HTTPStatus.ACCEPTED, payment_json(payment))


def _answer(status: HTTPStatus, view: Json) -> StoredAnswer:
    return StoredAnswer(status=status.value, body=json.dumps(view))


def _kept(
    waited: Waited, merchant_account: str, key: str, *, unit_of_work: UnitOfWorkFactory
) -> StoredAnswer:
    """Answer a request that waited, and keep the answer if the database can.

    It is true all the same, since the payment is stored. The same request again is a conflict then
    until the key's lease ends, and is answered afresh.
    """
    is_at_rest = waited.payment["state"] in REST_STATES
    answer = _answer(HTTPStatus.CREATED if is_at_rest else HTTPStatus.ACCEPTED, waited.payment)
    if waited.is_told:
        with suppress(StoreUnavailable):
            return keep_answer(merchant_account, key, answer, unit_of_work=unit_of_work)
    _log.warning("an answer is given that could not be kept")
    return answer


def _wait_seconds() -> int:
    """Read ``Prefer: wait=N`` (RFC 7240 section 4.3); a larger N is cut, other preferences pass."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), WAIT_SECONDS_MAX) if found else 0


def _id(text: str) -> UUID:
    """An id that is no UUID is the id of no payment."""
    try:
        return UUID(text)
    except ValueError:
        raise PaymentNotFound from None


def _filter(merchant_account: str) -> PaymentFilter:
    """Read the query; a filter without a value does not filter."""
    known = {"merchant_reference", "psp_reference", "state", "limit", "cursor"}
    problems = {name: "is not a known filter" for name in request.args if name not in known}
    state = request.args.get("state") or None
    if state is not None and state not in set(FlowState):
        problems["state"] = f"is not one of {', '.join(FlowState)}"
    limit = request.args.get("limit") or "50"
    if not (_LIMIT.fullmatch(limit) and 1 <= int(limit) <= PAGE_ITEMS_MAX):
        problems["limit"] = f"is not a whole number from 1 to {PAGE_ITEMS_MAX}"
    if problems:
        raise InvalidFields(problems)
    return PaymentFilter(
        merchant_account=merchant_account,
        merchant_reference=_storable("merchant_reference"),
        psp_reference=_storable("psp_reference"),
        state=state,
        cursor=request.args.get("cursor") or None,
        limit=int(limit),
    )


def _storable(name: str) -> str | None:
    """A value that no row can hold would be an error of Postgres, not an empty list."""
    value = request.args.get(name) or None
    if value is not None and not is_printable(value):
        raise InvalidFields({name: "holds a control character"})
    return value
