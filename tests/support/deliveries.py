"""Deliveries as the PSP makes them: under load, and each again until it is acknowledged."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from time import sleep

from tests.support.builders import a_webhook, an_item
from tests.support.instance import eventually

SENDERS = 4
#: Longer than the PSP waits: an answer that we lost would hide what we look for.
TIMEOUT_SECONDS = 60.0
#: A sender rests so long after each delivery, so that the load leaves something of the machine.
REST_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to a delivery; the status is None if the connection broke."""

    reference: str
    status: int | None
    retry_after: str | None = None


@dataclass
class Load:
    """Webhooks that are being delivered, each about a payment of its own.

    Attributes:
        prefix: With which their PSP references begin.
        answers: Of every delivery so far.
    """

    prefix: str
    answers: list[Answer] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def acknowledged(self) -> list[str]:
        """The PSP reference of every delivery that got a 200, in order."""
        return sorted(answer.reference for answer in list(self.answers) if answer.status == 200)

    @property
    def statuses(self) -> Counter[int | None]:
        """How many deliveries got which status."""
        return Counter(answer.status for answer in list(self.answers))

    def await_acknowledged(self, number: int) -> None:
        """Wait until so many more deliveries are acknowledged."""
        wanted = self.statuses[200] + number
        eventually(lambda: self.statuses[200] >= wanted, within_seconds=60)

    def await_status(self, status: int, number: int = 1) -> None:
        """Wait until so many more deliveries got this status."""
        wanted = self.statuses[status] + number
        eventually(lambda: self.statuses[status] >= wanted, within_seconds=60)

    def send(self, port: int, times: int) -> None:
        """Deliver one webhook after the other, until the load is over: one sender's work.

        Each is delivered until it was acknowledged ``times`` times.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        try:
            while not self._is_over.is_set():
                reference = f"{self.prefix}-{next(self._numbers):06}"
                body = a_webhook(an_item(psp_reference=reference, merchant_reference=reference))
                for _delivery in range(times):
                    self._deliver_until_acknowledged(connection, reference, body)
        finally:
            connection.close()

    def end(self) -> None:
        """Let every sender end once its webhook is acknowledged."""
        self._is_over.set()

    def _deliver_until_acknowledged(
        self, connection: http.client.HTTPConnection, reference: str, body: bytes
    ) -> None:
        answer = None
        while answer is None or answer.status != 200:
            answer = _deliver(connection, reference, body)
            self.answers.append(answer)
            sleep(REST_SECONDS if answer.status == 200 else 10 * REST_SECONDS)


@contextmanager
def a_load(prefix: str, ports: Sequence[int], *, times: int = 1) -> Iterator[Load]:
    """Deliver webhooks to the ports while the block runs.

    When it ends, so does the load, once all that was begun is acknowledged: whoever was sent
    anything but a 200 has been sent it again.
    """
    load = Load(prefix)
    threads = [
        threading.Thread(target=load.send, args=(port, times), daemon=True)
        for port, _sender in zip(cycle(ports), range(SENDERS), strict=False)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.end()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
        assert not thread.is_alive(), f"never acknowledged: {load.statuses}"


def deliver(port: int, *items: Mapping[str, object]) -> int | None:
    """Deliver signed items in one webhook, over a connection of its own; return the status."""
    return deliver_bytes(port, a_webhook(*items))


def deliver_bytes(port: int, body: bytes) -> int | None:
    """Deliver a body as it is; return the status, None if the connection broke."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        return _deliver(connection, "", body).status
    finally:
        connection.close()


def _deliver(connection: http.client.HTTPConnection, reference: str, body: bytes) -> Answer:
    try:
        connection.request("POST", "/webhooks/adyen", body)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return Answer(reference, None)
    return Answer(reference, response.status, response.getheader("Retry-After"))
