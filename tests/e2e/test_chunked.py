"""A body that does not tell its length is bounded like any other, over a real socket."""

import socket

from tests.support.builders import a_webhook
from tests.support.instance import RunningInstance, running_instance

LIMIT = 1024 * 1024


def post_chunked(instance: RunningInstance, body: bytes) -> bytes:
    """Send a body in one chunk, and return the first line of the answer."""
    return post_raw(instance, b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")


def post_raw(instance: RunningInstance, chunks: bytes) -> bytes:
    """Send chunks as they are, then no more, and return the first line of the answer."""
    head = (
        b"POST /webhooks/adyen HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", instance.port), timeout=20) as connection:
        connection.sendall(head + chunks)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536).split(b"\r\n", 1)[0]


def test_chunked_bodies_are_taken_up_to_the_limit_and_refused_beyond_or_broken() -> None:
    with running_instance() as instance:
        signed = a_webhook(key=bytes.fromhex(instance.demo["hmac_key"]))
        padded = signed + b" " * (LIMIT - len(signed))

        assert post_chunked(instance, signed) == b"HTTP/1.1 200 OK"
        assert post_chunked(instance, padded) == b"HTTP/1.1 200 OK"
        assert b" 413 " in post_chunked(instance, padded + b" ")
        for broken in (b"zz\r\nbody\r\n0\r\n\r\n", b"4\r\nbodyXX0\r\n\r\n", b"4\r\nbo"):
            assert b" 400 " in post_raw(instance, broken)
