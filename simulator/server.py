"""HTTP/1.1 with keep-alive, one process, a thread a connection, and requests without an answer.

Not gunicorn: its master and worker are two processes, so that a kill -9 of the one leaves the
other on the port, and a hanging request delays its graceful stop. Not Werkzeug's server: it
closes the connection after every answer. Here a request can be held and then dropped without
an answer, and the threads are daemons, so no request ever delays the end of the process.
"""

import io
import select
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication

from simulator.world import HOLD_SECONDS

HOST = "127.0.0.1"
LOOK_SECONDS = 0.2  #: How often a held request looks whether the caller has gone.
IDLE_SECONDS = 120.0  #: How long a kept-alive connection may be silent.
ACCEPT_POLL_SECONDS = 0.05  #: How soon the accepting thread notices that it should stop.


class Server(ThreadingTCPServer):
    """Serves one WSGI application on 127.0.0.1 until stopped."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, application: WSGIApplication) -> None:
        """Bind at once; connections wait until ``start``."""
        super().__init__((HOST, port), _Handler)
        self.application = application
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        """The port that was bound, also when 0 was asked for."""
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        """Accept connections in a thread of its own."""
        threading.Thread(
            target=self.serve_forever, args=(ACCEPT_POLL_SECONDS,), daemon=True
        ).start()

    def stop(self) -> None:
        """Close the port and drop held requests."""
        self.stopping.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - inherited
        """Say nothing of callers that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection: HTTP on the outside, WSGI on the inside."""

    protocol_version = "HTTP/1.1"
    server_version = "simulator"
    disable_nagle_algorithm = True
    wbufsize = -1  #: Headers and body leave in one piece.
    timeout = IDLE_SECONDS
    server: Server

    def do_GET(self) -> None:
        """Answer one request, or hold it and drop the connection."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            self.close_connection = True
            return
        environ = self._environ()
        started: list[Any] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _exc_info: object = None
        ) -> Any:  # noqa: ANN401 - WSGI's legacy writer, which Flask never calls
            started[:] = [status, headers]
            return None

        body = b"".join(self.server.application(environ, start_response))
        if HOLD_SECONDS in environ:
            self._hold(environ[HOLD_SECONDS])
            self.close_connection = True
            return
        status, headers = started
        self.send_response(int(status.partition(" ")[0]))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _environ(self) -> dict[str, Any]:
        """Return the WSGI environment of the request, its body already read."""
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": _unquoted(path),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "SERVER_NAME": HOST,
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.rfile.read(length)),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        return environ

    def _hold(self, seconds: float) -> None:
        """Keep the caller waiting until time is up, the caller goes, or the server stops."""
        for _ in range(int(seconds / LOOK_SECONDS)):
            if self.server.stopping.wait(LOOK_SECONDS) or _has_gone(self.connection):
                return

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet: the books tell what happened."""


def _unquoted(path: str) -> str:
    """Return the path decoded the way WSGI wants it: bytes as Latin-1 text."""
    return unquote_to_bytes(path).decode("latin-1")


def _has_gone(connection: socket.socket) -> bool:
    """Return whether the caller closed its side; unread bytes of a next request stay unread."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
