"""The web process: gunicorn around the Flask application, one greenlet a connection."""

import atexit
import logging
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from app.bootstrap import Container
from app.factory import create_app
from app.logs import configure_logs
from app.settings import Settings, horizon_warnings

#: Measured against threads: less of a core for each request, and a thousand connections cost little
#: (docs/decisions/0012).
WORKER_CLASS = "gevent"
#: Idle connections stay open this long, so that a caller's next request costs no handshake.
KEEPALIVE_SECONDS = 30
#: Requests under way may finish for this long after SIGTERM.
GRACEFUL_SECONDS = 10

_log = logging.getLogger(__name__)


def web_application(settings: Settings | None = None) -> Flask:
    """Build the application of one web process, from the environment if no settings are given."""
    configure_logs("web")
    settings = settings or Settings.load()
    for warning in horizon_warnings(settings):
        _log.warning(warning)
    container = Container(settings, role="web", pool_size=settings.web_database_connections)
    container.key_uses.keep_flushing()
    atexit.register(container.close)
    return create_app(container)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Every worker process builds its own application."""
    _Server(settings).run()  # type: ignore[no-untyped-call]  # gunicorn has few types


class _Server(BaseApplication):
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()  # type: ignore[no-untyped-call]  # the same

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self._settings.listen,
            "workers": self._settings.web_workers,
            "worker_connections": self._settings.web_connections,
            "worker_class": WORKER_CLASS,
            "keepalive": KEEPALIVE_SECONDS,
            "graceful_timeout": GRACEFUL_SECONDS,
            "timeout": 60,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "warning",
            "proc_name": "countersign web",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)  # type: ignore[union-attr]  # set by the base class

    def load(self) -> Flask:
        return web_application(self._settings)
