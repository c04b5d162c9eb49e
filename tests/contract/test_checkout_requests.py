"""What the PSP is asked, to the letter (psp-webhooks.md section 6); undoing has its own way."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from app.domain.saga import Reply, Request
from app.errors import GatewayNotAsked, GatewayRejected, GatewayUnavailable
from app.gateways.adyen import AdyenGateway
from app.gateways.http import HttpGateway
from app.sagas import booking
from tests.support.builders import ACCOUNT, PSP_REFERENCE, a_command, a_payment
from tests.support.guards import a_breaker, a_guard, open_breaker
from tests.support.peers import a_peer, answering, http_answer

AMOUNT = {"value": 12500, "currency": "EUR"}

AUTHORISE = booking.authorise(a_payment())
CAPTURE = booking.capture(replace(a_payment(), psp_reference=PSP_REFERENCE))


def giving_back(operation: str, **data: object) -> Request:
    about = {"psp_reference": PSP_REFERENCE, **data}
    return Request(service_id="psp", operation=operation, data=about)


CANCEL = giving_back("cancel")
REFUND = giving_back("refund", amount_minor=12500, currency="EUR")
REVERSE = giving_back("reverse")
CANCEL_BY_OUR_REFERENCE = Request(
    service_id="psp", operation="cancel", data={"merchant_reference": "ORDER-1001"}
)


@dataclass
class Psp:
    """Answers everything with a yes, and remembers what it was asked."""

    heads: list[str] = field(default_factory=list)
    bodies: list[Mapping[str, object]] = field(default_factory=list)

    def __call__(self, connection: socket.socket) -> None:
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(65536)
        head, _, body = received.decode().partition("\r\n\r\n")
        self.heads.append(head)
        self.bodies.append(json.loads(body))
        yes = b'{"pspReference": "MOD", "status": "received", "resultCode": "Authorised"}'
        connection.sendall(http_answer(201, yes))
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def a_gateway(
    psp: Psp, *, is_open: bool = False, is_undo_open: bool = False
) -> Iterator[AdyenGateway]:
    breakers = a_breaker(), a_breaker()
    for breaker, is_left_alone in zip(breakers, (is_open, is_undo_open), strict=True):
        if is_left_alone:
            open_breaker(breaker)
    guards = [a_guard(breaker=breaker) for breaker in breakers]
    with a_peer(psp) as port:
        http = HttpGateway(
            "the PSP", f"http://127.0.0.1:{port}/v72", headers={"X-API-Key": "k"}, guard=guards[0]
        )
        yield AdyenGateway(http, undo=http.behind(guards[1]), return_url="https://shop/return")
        http._client.close()  # noqa: SLF001  # a gateway lives as long as its process


def ask(gateway: AdyenGateway, request: Request) -> Reply:
    return gateway.handle(a_command(request))


@pytest.mark.parametrize(
    ("request_", "path", "body"),
    [
        (CAPTURE, f"payments/{PSP_REFERENCE}/captures", {"amount": AMOUNT}),
        (CANCEL, f"payments/{PSP_REFERENCE}/cancels", {}),
        (CANCEL_BY_OUR_REFERENCE, "cancels", {"paymentReference": "ORDER-1001"}),
        (REFUND, f"payments/{PSP_REFERENCE}/refunds", {"amount": AMOUNT}),
        (REVERSE, f"payments/{PSP_REFERENCE}/reversals", {}),
    ],
    ids=["capture", "cancel", "cancel by our reference", "refund", "reverse"],
)
def test_a_modification_is_asked_for_as_the_psp_wants_it(
    request_: Request, path: str, body: Mapping[str, object]
) -> None:
    psp = Psp()
    with a_gateway(psp) as gateway:
        reply = ask(gateway, request_)

    assert reply == Reply(success=True, data={"psp_reference": "MOD", "result": "received"})
    assert psp.heads[0].startswith(f"POST /v72/{path} HTTP/1.1\r\n")
    assert psp.bodies == [{"merchantAccount": ACCOUNT, **body}]


def test_an_authorisation_leaves_the_capture_to_the_flow() -> None:
    psp = Psp()
    with a_gateway(psp) as gateway:
        ask(gateway, AUTHORISE)

    [body] = psp.bodies
    assert body["additionalData"] == {"manualCapture": "true"}
    assert (body["reference"], body["amount"]) == ("ORDER-1001", AMOUNT)
    assert body["paymentMethod"] == {"type": "scheme", "holderName": "S Hopper"}


def test_every_request_carries_the_api_key_and_the_idempotency_key() -> None:
    psp = Psp()
    with a_gateway(psp) as gateway:
        for request in (AUTHORISE, CAPTURE, CANCEL, REFUND, REVERSE):
            ask(gateway, request)

    lines = [head.lower().split("\r\n") for head in psp.heads]
    assert all({"x-api-key: k", "idempotency-key: key"} <= set(head) for head in lines)


@pytest.mark.parametrize("undo", [CANCEL, CANCEL_BY_OUR_REFERENCE, REFUND, REVERSE])
def test_money_is_given_back_while_authorisations_are_held_off(undo: Request) -> None:
    with a_gateway(Psp(), is_open=True) as gateway:
        with pytest.raises(GatewayNotAsked):
            ask(gateway, AUTHORISE)

        assert ask(gateway, undo).data["result"] == "received"


@pytest.mark.parametrize("wanted", [AUTHORISE, CAPTURE])
def test_money_is_asked_for_while_undoing_is_held_off(wanted: Request) -> None:
    with a_gateway(Psp(), is_undo_open=True) as gateway:
        with pytest.raises(GatewayNotAsked):
            ask(gateway, REVERSE)

        assert ask(gateway, wanted).data["psp_reference"] == "MOD"


@pytest.mark.parametrize(
    "answer",
    [b"{}", b'{"pspReference": "MOD"}', b'{"resultCode": "Authorised", "pspReference": 7}'],
)
def test_an_answer_without_its_reference_or_its_result_is_none(answer: bytes) -> None:
    with a_peer(answering(http_answer(200, answer))) as port:
        http = HttpGateway("the PSP", f"http://127.0.0.1:{port}", headers={}, guard=a_guard())
        gateway = AdyenGateway(http, undo=http, return_url="https://shop/return")
        with pytest.raises(GatewayUnavailable):
            ask(gateway, AUTHORISE)
        http._client.close()  # noqa: SLF001  # a gateway lives as long as its process


def test_an_authorisation_without_a_payment_method_is_not_sent() -> None:
    psp = Psp()
    nameless = replace(AUTHORISE, data={**AUTHORISE.data, "payment_method": None})
    with a_gateway(psp) as gateway, pytest.raises(GatewayRejected):
        ask(gateway, nameless)

    assert psp.heads == []
