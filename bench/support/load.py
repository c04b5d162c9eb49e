"""HTTP load from raw sockets and prepared bytes, so that it costs little of the shared cores.

It knows only what our servers send: answers with Content-Length, on connections that stay open. Any
answer but a 200 ends the run.
"""

import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from time import perf_counter, sleep

CONNECTIONS = 64

#: An answer that takes longer is none.
PATIENCE_SECONDS = 10.0

#: How long the server has to accept the connections: that is no part of what is measured.
SETTLE_SECONDS = 0.1

#: How far an open load may fall behind its schedule: a server that falls further back can't keep
#: the rate, and its latencies only tell how long it was asked to.
LATENESS_SECONDS_MAX = 1.0

_OK = b"HTTP/1.1 200 "


@dataclass(frozen=True)
class Outcome:
    """What a closed load reached."""

    answers: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def request(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(
    port: int, requests: Iterator[bytes], *, seconds: float = inf, connections: int = CONNECTIONS
) -> Outcome:
    """Send the next request on every connection as soon as its answer is in: a closed loop.

    Args:
        port: On the loopback.
        requests: What to send; the run ends early when there is none left.
        seconds: How long to go on.
        connections: How many.
    """
    answers = 0
    with _connected(port, connections) as open_ones, selectors.DefaultSelector() as selector:
        begun_at = perf_counter()
        ends_at = begun_at + seconds
        for connection, following in zip(open_ones, requests, strict=False):
            connection.send(following)
            selector.register(connection.sock, selectors.EVENT_READ, connection)
        while selector.get_map():
            ready = _ready(selector, PATIENCE_SECONDS)
            is_over = perf_counter() >= ends_at
            for connection in ready:
                if not connection.has_answer():
                    continue
                answers += 1
                following = b"" if is_over else next(requests, b"")
                if following:
                    connection.send(following)
                else:
                    selector.unregister(connection.sock)
        return Outcome(answers, perf_counter() - begun_at)


def run_at(
    port: int,
    requests: Iterator[bytes],
    *,
    rate: float,
    seconds: float,
    connections: int = CONNECTIONS,
) -> list[float]:
    """Send on a fixed schedule, whatever the answers do: an open loop.

    Returns:
        Seconds from when each request was due, not from when a connection was free for it: a pause
        of the server is felt by all who would have come meanwhile.
    """
    number = int(rate * seconds)
    sent = 0
    latencies: list[float] = []
    # Its timeouts are exact to microseconds; those of epoll are whole milliseconds.
    with _connected(port, connections) as idle, selectors.SelectSelector() as selector:
        for connection in idle:
            selector.register(connection.sock, selectors.EVENT_READ, connection)
        begun_at = perf_counter()
        while len(latencies) < number:
            due_at = begun_at + sent / rate
            while idle and sent < number and due_at <= perf_counter():
                connection = idle.pop()
                connection.due_at = due_at
                connection.send(next(requests))
                sent += 1
                due_at = begun_at + sent / rate
            if sent < number and perf_counter() - due_at > LATENESS_SECONDS_MAX:
                raise SystemExit(f"{rate:.0f} requests a second are too many")
            may_send = idle and sent < number
            wait_seconds = max(due_at - perf_counter(), 0) if may_send else PATIENCE_SECONDS
            for connection in _ready(selector, wait_seconds):
                if connection.has_answer():
                    latencies.append(perf_counter() - connection.due_at)
                    idle.append(connection)
    return latencies


def percentile(values: list[float], share: float) -> float:
    """Return what ``share`` of the values stay below."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.due_at = 0.0
        self._received = b""
        self._length = 0

    def send(self, content: bytes) -> None:
        self.sock.sendall(content)

    def has_answer(self) -> bool:
        """Read what is there; tell whether the answer is whole."""
        chunk = self.sock.recv(65536)
        if not chunk:
            raise SystemExit("the server closed a connection")
        self._received += chunk
        if len(self._received) != self._length:  # as long as the one before it, as a rule
            self._length = _length(self._received)
        if not self._length or len(self._received) < self._length:
            return False
        if not self._received.startswith(_OK):
            raise SystemExit(f"not accepted: {self._received.decode(errors='replace')}")
        self._received = b""
        return True


def _length(received: bytes) -> int:
    """Return the length of the whole answer; 0 if its head is not here yet."""
    head, separator, _body = received.partition(b"\r\n\r\n")
    if not separator:
        return 0
    _before, _name, after = head.lower().partition(b"\r\ncontent-length:")
    return len(head) + len(separator) + int(after.split(b"\r\n", 1)[0])


def _ready(selector: selectors.BaseSelector, wait_seconds: float) -> list[_Connection]:
    ready = [key.data for key, _events in selector.select(wait_seconds)]
    if not ready and wait_seconds >= PATIENCE_SECONDS:
        raise SystemExit(f"no answer within {PATIENCE_SECONDS:.0f} s")
    return ready


@contextmanager
def _connected(port: int, number: int) -> Iterator[list[_Connection]]:
    with ExitStack() as stack:
        connections = []
        for _ in range(number):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections.append(_Connection(sock))
        sleep(SETTLE_SECONDS)
        yield connections
