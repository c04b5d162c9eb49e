"""The gateway tries again within a call, and the saga calls again: all in all not often (F58)."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from app.gateways.booking import HttpBookingGateway
from app.gateways.http import HttpGateway
from app.gateways.resilience import PAUSES_SECONDS
from tests.support.builders import an_item
from tests.support.guards import a_breaker, a_guard
from tests.support.peers import a_peer, http_answer, read_request
from tests.support.sagas import STEPS
from tests.support.service import Service

CALLS_MAX = len(STEPS["booking_confirmation"].retry.delays_seconds) + 1
TRIES_MAX = len(PAUSES_SECONDS) + 1


@dataclass
class Broken:
    """A booking service that fails whatever it is asked."""

    requests: list[str] = field(default_factory=list)

    def __call__(self, connection: socket.socket) -> None:
        self.requests.append(read_request(connection))
        connection.sendall(http_answer(500))
        connection.shutdown(socket.SHUT_RDWR)

    def asked(self, path: str) -> int:
        return sum(1 for request in self.requests if request.endswith(path))


@contextmanager
def in_front_of(service: Service, booking: Broken, *, has_breaker: bool) -> Iterator[Service]:
    """The service, whose booking gateway is real; its breaker's time is the test's."""

    def now() -> float:
        # Without a breaker in the way: every failure is so long ago that it counts for nothing.
        return service.clock.now().timestamp() if has_breaker else next(ages)

    ages = iter(range(0, 10**9, 10**5))
    with a_peer(booking) as port:
        guard = a_guard(breaker=a_breaker(now=now))
        http = HttpGateway("booking", f"http://127.0.0.1:{port}", headers={}, guard=guard)
        gateway = HttpBookingGateway(http, undo=http.behind(a_guard(breaker=a_breaker(now=now))))
        outside = {**service.outside.participants(), "booking": gateway}
        container = replace(service.container, outside=outside)
        yield replace(service, container=container)
        container.close()
        http._client.close()  # noqa: SLF001  # a gateway lives as long as its process


@pytest.mark.parametrize("has_breaker", [True, False])
def test_a_service_that_fails_is_tried_no_more_often_than_both_schedules_say(
    service: Service, *, has_breaker: bool
) -> None:
    broken = Broken()
    with in_front_of(service, broken, has_breaker=has_breaker) as fronted:
        payment_id = fronted.start()
        fronted.settle()
        fronted.receive(an_item())
        for _ in range(140):
            fronted.later(5)
        state = fronted.payment(payment_id).state

    confirmations = broken.asked("/confirmations")
    assert state == "compensating"
    assert CALLS_MAX <= confirmations <= CALLS_MAX * TRIES_MAX
    assert has_breaker or confirmations == CALLS_MAX * TRIES_MAX
