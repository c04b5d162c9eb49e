"""Peers that misbehave: a local socket and a script of what it says."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import sleep

Script = Callable[[socket.socket], None]

SMTP_REPLIES = {
    "HELLO": b"220 peer",
    "EHLO": b"250 peer",
    "MAIL": b"250 ok",
    "RCPT": b"250 ok",
    "DATA": b"354 go on",
    ".": b"250 taken",
    "RSET": b"250 ok",
    "QUIT": b"221 bye",
}


@contextmanager
def a_peer(script: Script) -> Iterator[int]:
    """Run ``script`` on every connection, each in a thread; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def talk(connection: socket.socket) -> None:
        with suppress(OSError):
            script(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _address = listener.accept()
                held.append(connection)
                thread = threading.Thread(target=talk, args=(connection,))
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for connection in held:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in threads:
            thread.join()


def read_request(connection: socket.socket) -> str:
    """Read one HTTP request with its body; return its path."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    [length] = [
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    ]
    while len(body) < length:
        body += _some(connection)
    return head.split(b" ", 2)[1].decode()


def answering(*pieces: bytes, pause_seconds: float = 0) -> Script:
    """Read the request, then send the pieces, with a pause before each but the first."""

    def script(connection: socket.socket) -> None:
        read_request(connection)
        for number, piece in enumerate(pieces):
            if number:
                sleep(pause_seconds)
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_RDWR)

    return script


def http_answer(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    """Return the bytes of an HTTP answer, the last one of its connection."""
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def silent(connection: socket.socket) -> None:
    """Read whatever comes and never answer."""
    while connection.recv(65536):
        pass


def smtp(replies: Mapping[str, bytes] | None = None) -> Script:
    """Speak SMTP with some replies of one's own; an empty one hangs up."""
    said = {**SMTP_REPLIES, **(replies or {})}

    def script(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        _say(connection, said["HELLO"])
        for line in lines:
            verb = line[:4].strip().upper().decode()
            _say(connection, said.get(verb, b"502 what"))
            if verb == "DATA" and said["DATA"].startswith(b"354"):
                while lines.readline() not in {b".\r\n", b""}:
                    pass
                _say(connection, said["."])

    return script


def _say(connection: socket.socket, reply: bytes) -> None:
    if not reply:
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError
    connection.sendall(reply + b"\r\n")


def _some(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionResetError
    return received
