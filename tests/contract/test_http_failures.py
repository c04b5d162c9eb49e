"""Every way an HTTP call can fail is one of our errors, and a slow peer holds nothing (F8, F57)."""

import gzip
import socket
import struct
from collections.abc import Iterator
from time import sleep

import httpx2
import pytest

from app.embedded import free_port
from app.errors import (
    GatewayError,
    GatewayInProgress,
    GatewayNotAsked,
    GatewayOverloaded,
    GatewayRejected,
    GatewayTimeout,
    GatewayUnavailable,
)
from app.gateways.http import ANSWER_BYTES_MAX, HttpGateway
from tests.support.guards import a_guard
from tests.support.peers import Script, a_peer, answering, http_answer, read_request, silent

TIMEOUT_SECONDS = 1
SLOWLY = 0.35  #: Below the timeout, so that no single wait is too long.
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
BODY = b'{"a": "0123456789a"}'


def post(port: int, *, also_answers: frozenset[int] = frozenset()) -> tuple[int, object]:
    gateway = HttpGateway(
        "the peer",
        f"http://127.0.0.1:{port}/",
        headers={},
        guard=a_guard(timeout_seconds=TIMEOUT_SECONDS),
    )
    try:
        return gateway.post("/path", {"a": 1}, idempotency_key="key", also_answers=also_answers)
    finally:
        gateway._client.close()  # noqa: SLF001  # a gateway lives as long as its process


def pieces(text: bytes) -> Iterator[bytes]:
    return (text[place : place + 1] for place in range(len(text)))


@pytest.mark.parametrize("status", [200, 201, 202, 409])
def test_an_answer_is_an_answer(status: int) -> None:
    with a_peer(answering(http_answer(status, b'{"word": "yes"}'))) as port:
        assert post(port, also_answers=frozenset({409})) == (status, {"word": "yes"})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http_answer(400), GatewayRejected),
        (http_answer(401), GatewayRejected),
        (http_answer(403), GatewayRejected),
        (http_answer(404), GatewayRejected),
        (http_answer(422, b'{"errorCode": "167"}'), GatewayRejected),
        (http_answer(422, b'{"errorCode": "704"}', transient_error="true"), GatewayInProgress),
        (http_answer(403, b'{"errorCode": "704"}'), GatewayInProgress),
        (http_answer(422, b'{"errorCode": "10"}', transient_error="true"), GatewayUnavailable),
        (http_answer(422, b"not json"), GatewayRejected),
        (http_answer(408), GatewayUnavailable),
        (http_answer(429), GatewayOverloaded),
        (http_answer(429, Retry_After="1"), GatewayOverloaded),
        (http_answer(503, Retry_After="1"), GatewayOverloaded),
        (http_answer(500), GatewayUnavailable),
        (http_answer(502, b"<html>"), GatewayUnavailable),
        (http_answer(503, b'{"errorCode": "703"}'), GatewayUnavailable),
        (http_answer(504), GatewayUnavailable),
        (http_answer(302, Location="http://127.0.0.1/"), GatewayUnavailable),
        (http_answer(200, b""), GatewayUnavailable),
        (http_answer(200, b"not json"), GatewayUnavailable),
        (http_answer(200, b"[]"), GatewayUnavailable),
        (http_answer(200, b"\xff\xfe"), GatewayUnavailable),
        (http_answer(200, b"[" * 100_000), GatewayUnavailable),
        (http_answer(200, b" " * (ANSWER_BYTES_MAX + 1)), GatewayUnavailable),
        (http_answer(200, b"no gzip", Content_Encoding="gzip"), GatewayTimeout),
        (b"SSH-2.0-OpenSSH_9.9\r\n", GatewayTimeout),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}", GatewayTimeout),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", GatewayTimeout),
        (b"", GatewayTimeout),
    ],
)
def test_an_answer_that_is_none_is_the_right_error(
    answer: bytes, error: type[GatewayError]
) -> None:
    with a_peer(answering(answer)) as port, pytest.raises(GatewayError) as caught:
        post(port)

    assert type(caught.value) is error


def test_a_peer_that_says_nothing_is_a_timeout() -> None:
    with a_peer(silent) as port, pytest.raises(GatewayTimeout):
        post(port)


@pytest.mark.parametrize(
    "drip",
    [
        [HEAD + b"\r\n", *pieces(BODY)],
        [HEAD + b"X-Slow: ", *pieces(b"drip" * 4), b"\r\n\r\n" + BODY],
        [*[b"HTTP/1.1 103 Hints\r\n\r\n"] * 16, HEAD + b"\r\n" + BODY],
        [CHUNKED + b"\r\n", *pieces(b"0" * 14 + b"14\r\n"), BODY + b"\r\n0\r\n\r\n"],
    ],
    ids=["its body", "its head", "hints", "the length of a chunk"],
)
def test_a_peer_that_drips_is_hung_up_on_before_it_is_through(drip: list[bytes]) -> None:
    """F57."""
    was_heard_out: list[bool] = []

    def drip_to_the_end(connection: socket.socket) -> None:
        read_request(connection)
        for piece in drip:
            connection.sendall(piece)
            sleep(SLOWLY)
        was_heard_out.append(True)

    with a_peer(drip_to_the_end) as port, pytest.raises(GatewayTimeout):
        post(port)

    assert was_heard_out == []


def test_a_peer_that_hangs_up_before_it_read_is_a_timeout() -> None:
    with a_peer(lambda connection: connection.close()) as port, pytest.raises(GatewayTimeout):
        post(port)


def test_a_peer_that_is_not_there_was_not_asked() -> None:
    with pytest.raises(GatewayNotAsked, match="can't be connected to"):
        post(free_port())


@pytest.mark.parametrize("url", ["", "nowhere", "http://127.0.0.1:99999", "http://no.invalid"])
def test_an_address_that_leads_nowhere_was_not_asked(url: str) -> None:
    gateway = HttpGateway("the peer", url, headers={}, guard=a_guard())

    with pytest.raises(GatewayNotAsked):
        gateway.post("/path", {}, idempotency_key="key")


def test_a_packed_answer_is_bounded_by_its_unpacked_size() -> None:
    bomb = gzip.compress(b" " * (20 * ANSWER_BYTES_MAX))

    with (
        a_peer(answering(http_answer(200, bomb, Content_Encoding="gzip"))) as port,
        pytest.raises(GatewayUnavailable, match="too large"),
    ):
        post(port)


def test_an_error_repeats_nothing_of_what_was_sent_or_answered() -> None:
    body = b'{"errorCode": "905", "message": "Invalid card 4111111111111111"}'

    with a_peer(answering(http_answer(422, body))) as port, pytest.raises(GatewayError) as caught:
        post(port)

    assert str(caught.value) == "the peer: 422 (errorCode 905)"


def test_an_error_keeps_what_identifies_it_at_the_psp() -> None:
    body = (
        b'{"status": 422, "errorCode": "167", "errorType": "validation",'
        b' "pspReference": "KHQC5N7G84BLNK43", "message": "no"}'
    )

    with a_peer(answering(http_answer(422, body))) as port, pytest.raises(GatewayError) as caught:
        post(port)

    assert str(caught.value) == (
        "the peer: 422 (errorCode 167, errorType validation, pspReference KHQC5N7G84BLNK43)"
    )


def reset(connection: socket.socket) -> None:
    """Read the request, and break the connection off."""
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def one_after_the_other(*scripts: Script) -> tuple[Script, list[socket.socket]]:
    """Play one script a connection, and the last one from then on; tells who connected."""
    connections: list[socket.socket] = []

    def script(connection: socket.socket) -> None:
        connections.append(connection)
        scripts[min(len(connections), len(scripts)) - 1](connection)

    return script, connections


YES = answering(http_answer(200, b'{"word": "yes"}'))


@pytest.mark.parametrize(
    "blip",
    [
        answering(http_answer(500)),
        answering(http_answer(503, b'{"errorCode": "703"}')),
        answering(http_answer(422, b'{"errorCode": "704"}', transient_error="true")),
        answering(http_answer(409, b'{"errorCode": "704"}', transient_error="true")),
        answering(http_answer(200, b"not json")),
        answering(b"SSH-2.0-OpenSSH_9.9\r\n"),
        reset,
        lambda connection: connection.close(),
    ],
    ids=["500", "703", "422 704", "409 704", "no JSON", "no HTTP", "reset", "hung up"],
)
def test_a_blip_is_tried_again_within_the_call(blip: Script) -> None:
    script, connections = one_after_the_other(blip, blip, YES)

    with a_peer(script) as port:
        answer = post(port)

    assert answer == (200, {"word": "yes"})
    assert len(connections) == 3


def test_no_call_tries_more_than_three_times() -> None:
    """F58."""
    script, connections = one_after_the_other(answering(http_answer(500)))

    with a_peer(script) as port, pytest.raises(GatewayUnavailable):
        post(port)

    assert len(connections) == 3


@pytest.mark.parametrize(
    "answer", [http_answer(422), http_answer(429), http_answer(503, Retry_After="1")]
)
def test_a_refusal_and_a_plea_to_wait_are_not_tried_again(answer: bytes) -> None:
    """F58: whoever asks for a pause gets it."""
    script, connections = one_after_the_other(answering(answer))

    with a_peer(script) as port, pytest.raises(GatewayError):
        post(port)

    assert len(connections) == 1


def test_a_refusal_after_a_try_that_may_have_worked_is_no_refusal() -> None:
    script, _connections = one_after_the_other(reset, answering(http_answer(401)))

    with a_peer(script) as port, pytest.raises(GatewayTimeout):
        post(port)


def test_every_try_carries_the_same_idempotency_key() -> None:
    seen: list[bytes] = []

    def listen_and_hang_up(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.shutdown(socket.SHUT_RDWR)

    with a_peer(listen_and_hang_up) as port, pytest.raises(GatewayTimeout):
        post(port)

    assert [b"idempotency-key: key\r\n" in request.lower() for request in seen] == [True] * 3


def subclasses(error: type[httpx2.HTTPError]) -> Iterator[type[httpx2.HTTPError]]:
    yield error
    for below in error.__subclasses__():
        yield from subclasses(below)


def instance(error: type[httpx2.HTTPError]) -> httpx2.HTTPError:
    if error is httpx2.HTTPStatusError:
        request = httpx2.Request("POST", "http://127.0.0.1/")
        return httpx2.HTTPStatusError("no", request=request, response=httpx2.Response(500))
    return error("no")


@pytest.mark.parametrize("error", list(subclasses(httpx2.HTTPError)), ids=lambda e: e.__name__)
def test_every_error_of_the_http_client_is_one_of_ours(error: type[httpx2.HTTPError]) -> None:
    def fail(_request: httpx2.Request) -> httpx2.Response:
        raise instance(error)

    gateway = HttpGateway("the peer", "http://127.0.0.1/", headers={}, guard=a_guard())
    gateway._client = httpx2.Client(transport=httpx2.MockTransport(fail))  # noqa: SLF001  # its seam

    with pytest.raises((GatewayTimeout, GatewayUnavailable)) as caught:
        gateway.post("/path", {}, idempotency_key="key")

    assert caught.value.retryable
    never_left = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
    is_known_to_have_done_nothing = isinstance(caught.value, GatewayNotAsked)
    assert is_known_to_have_done_nothing == (error.__name__ in never_left)
