"""A closed-loop HTTP load: N connections, each sends its next request when its answer is in.

Raw sockets and prepared bytes, so that the load costs little of the cores that it shares with what
it measures. It knows only what our servers send: answers with Content-Length, on connections that
stay open.
"""

import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Outcome:
    """What came back.

    Attributes:
        seconds: How long the load ran.
        statuses: Answers by status.
        latencies: Seconds from sending to the whole answer, one an answer.
    """

    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that ``share`` of the answers stay below."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass
class _Connection:
    sock: socket.socket
    sent_at: float = 0.0
    received: bytes = b""


def request(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """Return the bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run(port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Outcome:
    """Send ``requests`` for ``seconds``, or until there is none left."""
    selector = selectors.DefaultSelector()
    outcome = Outcome()
    begun_at = perf_counter()
    open_connections = 0
    for _ in range(connections):
        connection = _Connection(socket.create_connection(("127.0.0.1", port)))
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _send_next(connection, requests):
            selector.register(connection.sock, selectors.EVENT_READ, connection)
            open_connections += 1
    ends_at = begun_at + seconds
    while open_connections:
        for key, _events in selector.select(timeout=5):
            connection = key.data
            status = _receive(connection)
            if status is None:
                continue
            now = perf_counter()
            outcome.latencies.append(now - connection.sent_at)
            outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
            if now >= ends_at or not _send_next(connection, requests):
                selector.unregister(connection.sock)
                connection.sock.close()
                open_connections -= 1
    outcome.seconds = perf_counter() - begun_at
    return outcome


def _send_next(connection: _Connection, requests: Iterator[bytes]) -> bool:
    following = next(requests, None)
    if following is None:
        return False
    connection.received = b""
    connection.sent_at = perf_counter()
    connection.sock.sendall(following)
    return True


def _receive(connection: _Connection) -> int | None:
    """Read what is there; return the status once the answer is whole."""
    chunk = connection.sock.recv(65536)
    if not chunk:
        raise ConnectionError("the server closed the connection")
    connection.received += chunk
    head, separator, body = connection.received.partition(b"\r\n\r\n")
    if not separator:
        return None
    lower = head.lower()
    place = lower.index(b"content-length:") + len(b"content-length:")
    length = int(lower[place:].split(b"\r\n", 1)[0])
    return int(head[9:12]) if len(body) >= length else None
