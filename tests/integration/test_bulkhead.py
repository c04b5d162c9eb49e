"""A service that hangs or fails leaves room for all else: bounded calls, a breaker each way."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from app.bootstrap import Container
from app.domain.saga import Request
from app.errors import GatewayNotAsked, GatewayUnavailable
from app.gateways.booking import HttpBookingGateway
from app.gateways.http import HttpGateway
from app.sagas.booking import cancel_booking, confirm_booking
from app.settings import Settings
from tests.support.builders import a_command, a_payment, an_item
from tests.support.guards import a_guard
from tests.support.peers import a_peer, http_answer, read_request
from tests.support.runners import PATIENCE_SECONDS, running
from tests.support.service import Service, poll

CALLS_MAX = 8
HANGING = 20
OTHERS = 12


@dataclass
class Hanging:
    """A booking service that answers nobody until it is let go.

    Attributes:
        asked: Requests so far.
    """

    asked: int = 0
    may_answer: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, connection: socket.socket) -> None:
        read_request(connection)
        with self._lock:
            self.asked += 1
        assert self.may_answer.wait(PATIENCE_SECONDS)
        connection.sendall(http_answer(200, b'{"status": "confirmed"}'))
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def in_front_of(service: Service, booking: Hanging) -> Iterator[Service]:
    """The service, whose booking gateway is real and may make ``CALLS_MAX`` calls at once."""
    with a_peer(booking) as port:
        guard = a_guard(timeout_seconds=PATIENCE_SECONDS, calls_max=CALLS_MAX, pauses_seconds=())
        http = HttpGateway("booking", f"http://127.0.0.1:{port}", headers={}, guard=guard)
        gateway = HttpBookingGateway(http, undo=http)
        outside = {**service.outside.participants(), "booking": gateway}
        container = replace(service.container, outside=outside)
        try:
            yield replace(service, container=container)
        finally:
            booking.may_answer.set()
            container.close()
            http._client.close()  # noqa: SLF001  # a gateway lives as long as its process


def start(service: Service, prefix: str, number: int, *, is_authorised: bool) -> list[object]:
    """Start payments, and tell each what the PSP says of it."""
    references = [f"{prefix}-{one}" for one in range(number)]
    ids: list[object] = [service.start(merchant_reference=one) for one in references]
    service.deliver(
        *(
            an_item(merchant_reference=one, psp_reference=f"PSP{one}", success=is_authorised)
            for one in references
        )
    )
    service.drain()
    return ids


def states(service: Service, prefix: str) -> list[str]:
    rows = service.rows(
        "SELECT DISTINCT state FROM payments WHERE merchant_reference LIKE :prefix",
        prefix=f"{prefix}-%",
    )
    return [str(row["state"]) for row in rows]


def put_off(service: Service) -> int:
    [row] = service.rows("SELECT count(*) AS n FROM saga_steps WHERE status = 'put_off'")
    return int(row["n"])


def test_payments_that_need_nothing_of_a_service_that_hangs_go_on(service: Service) -> None:
    """The settings' own numbers: 16 payments at once, of which 8 may wait for one service."""
    assert service.container.settings.gateway_calls == CALLS_MAX
    assert service.container.settings.saga_threads == 2 * CALLS_MAX
    booking = Hanging()
    with (
        in_front_of(service, booking) as fronted,
        running(fronted.container.runner) as stop,
    ):
        start(fronted, "HANGS", HANGING, is_authorised=True)
        poll(lambda: booking.asked == CALLS_MAX and put_off(service) == HANGING - CALLS_MAX)

        fronted.outside.psp.result = "Refused"
        start(fronted, "OTHER", OTHERS, is_authorised=False)
        poll(lambda: states(service, "OTHER") == ["declined"])

        assert states(service, "HANGS") == ["booking_confirmation"]
        assert booking.asked == CALLS_MAX
        booking.may_answer.set()
        stop()


@pytest.fixture
def failing_confirmations(settings: Settings) -> Iterator[Container]:
    """The gateways as they are wired, before a service that fails on one of its two ways."""

    def answer(connection: socket.socket) -> None:
        is_confirmation = read_request(connection).endswith("/confirmations")
        connection.sendall(http_answer(500 if is_confirmation else 200))
        connection.shutdown(socket.SHUT_RDWR)

    with a_peer(answer) as port:
        url = f"http://127.0.0.1:{port}"
        container = Container(settings.model_copy(update={"booking_url": url}), role="test")
        yield container
        container.close()


def ask(container: Container, request: Request) -> bool:
    return container.participants["booking"].handle(a_command(request)).success


def test_bookings_are_cancelled_while_confirmations_are_held_off(
    failing_confirmations: Container,
) -> None:
    confirm, cancel = confirm_booking(a_payment()), cancel_booking(a_payment(), {})
    for _call in range(4):
        with pytest.raises(GatewayUnavailable):
            ask(failing_confirmations, confirm)
    with pytest.raises(GatewayNotAsked, match="left alone"):
        ask(failing_confirmations, confirm)

    assert ask(failing_confirmations, cancel)
    with pytest.raises(GatewayNotAsked, match="left alone"):
        ask(failing_confirmations, confirm)
