"""A total deadline for an HTTP call, kept by the network connection itself.

The client's own timeouts start again with every chunk that it reads: a peer that drips a byte a
second could hold a call for ever, in its status line, its headers or its body. Here every read and
write of a thread's call gets what is left of the call's time.
"""

import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import httpcore2
import httpx2

_call = threading.local()


@contextmanager
def total_deadline(seconds: float) -> Iterator[None]:
    """End this thread's HTTP call after ``seconds``, whatever the peer does."""
    _call.ends_at = monotonic() + seconds
    try:
        yield
    finally:
        del _call.ends_at


def _left(timeout: float | None, expired: type[httpcore2.TimeoutException]) -> float | None:
    ends_at: float | None = getattr(_call, "ends_at", None)
    if ends_at is None:
        return timeout
    left = ends_at - monotonic()
    if left <= 0:
        raise expired("the call's total time is over")
    return left if timeout is None else min(timeout, left)


class DeadlineTransport(httpx2.HTTPTransport):
    """The client's transport, on connections that know the call's deadline."""

    def __init__(self) -> None:
        """Make a pool of connections."""
        super().__init__()
        # The transport does not let its pool's network backend be chosen.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )


class _Backend(httpcore2.NetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        left = _left(timeout, httpcore2.ConnectTimeout)
        stream = self._backend.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  # as its parent says
        return self._stream.get_extra_info(info)
