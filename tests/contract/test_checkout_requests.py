"""What the PSP is asked, to the letter (psp-webhooks.md section 6); undoing has its own way."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from app.domain.payment import Payment
from app.errors import GatewayNotAsked
from app.gateways.adyen import AdyenGateway
from app.gateways.http import HttpGateway
from app.services.ports import PspAnswer
from tests.support.builders import ACCOUNT, EUR_125, a_payment
from tests.support.guards import a_breaker, a_guard, open_breaker
from tests.support.peers import a_peer, http_answer

AMOUNT = {"value": 12500, "currency": "EUR"}
PAID = replace(a_payment(), psp_reference="8816178914079738")

Ask = Callable[[AdyenGateway, Payment], PspAnswer]


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


def authorise(psp: AdyenGateway, payment: Payment) -> PspAnswer:
    return psp.authorise(payment, idempotency_key="key")


def capture(psp: AdyenGateway, payment: Payment) -> PspAnswer:
    return psp.capture(payment, EUR_125, idempotency_key="key")


def cancel(psp: AdyenGateway, payment: Payment) -> PspAnswer:
    return psp.cancel(payment, idempotency_key="key")


def refund(psp: AdyenGateway, payment: Payment) -> PspAnswer:
    return psp.refund(payment, EUR_125, idempotency_key="key")


def reverse(psp: AdyenGateway, payment: Payment) -> PspAnswer:
    return psp.reverse(payment, idempotency_key="key")


@pytest.mark.parametrize(
    ("ask", "payment", "path", "body"),
    [
        (capture, PAID, "payments/8816178914079738/captures", {"amount": AMOUNT}),
        (cancel, PAID, "payments/8816178914079738/cancels", {}),
        (cancel, a_payment(), "cancels", {"paymentReference": "ORDER-1001"}),
        (refund, PAID, "payments/8816178914079738/refunds", {"amount": AMOUNT}),
        (reverse, PAID, "payments/8816178914079738/reversals", {}),
    ],
)
def test_a_modification_is_asked_for_as_the_psp_wants_it(
    ask: Ask, payment: Payment, path: str, body: Mapping[str, object]
) -> None:
    psp = Psp()
    with a_gateway(psp) as gateway:
        answer = ask(gateway, payment)

    assert answer == PspAnswer(psp_reference="MOD", result="received")
    assert psp.heads[0].startswith(f"POST /v72/{path} HTTP/1.1\r\n")
    assert psp.bodies == [{"merchantAccount": ACCOUNT, **body}]


def test_an_authorisation_leaves_the_capture_to_the_flow() -> None:
    psp = Psp()
    with a_gateway(psp) as gateway:
        authorise(gateway, a_payment())

    [body] = psp.bodies
    assert body["additionalData"] == {"manualCapture": "true"}
    assert (body["reference"], body["amount"]) == ("ORDER-1001", AMOUNT)


def test_every_request_carries_the_api_key_and_the_idempotency_key() -> None:
    psp = Psp()
    with a_gateway(psp) as gateway:
        for ask in (authorise, capture, cancel, refund, reverse):
            ask(gateway, PAID)

    lines = [head.lower().split("\r\n") for head in psp.heads]
    assert all({"x-api-key: k", "idempotency-key: key"} <= set(head) for head in lines)


@pytest.mark.parametrize("undo", [cancel, refund, reverse])
def test_money_is_given_back_while_authorisations_are_held_off(undo: Ask) -> None:
    with a_gateway(Psp(), is_open=True) as gateway:
        with pytest.raises(GatewayNotAsked):
            authorise(gateway, PAID)

        assert undo(gateway, PAID).result == "received"


@pytest.mark.parametrize("ask", [authorise, capture])
def test_money_is_asked_for_while_undoing_is_held_off(ask: Ask) -> None:
    with a_gateway(Psp(), is_undo_open=True) as gateway:
        with pytest.raises(GatewayNotAsked):
            reverse(gateway, PAID)

        assert ask(gateway, PAID).psp_reference == "MOD"
