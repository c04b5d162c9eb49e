"""Logs: one JSON object a line on stderr, with the ids of the request or the work it belongs to."""

import logging
import sys
from contextvars import ContextVar

import structlog

#: The request that this thread serves; empty outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="")


def configure_logs(role: str) -> None:
    """Send every log line of this process, and of its libraries, through one JSON formatter.

    Args:
        role: ``web`` or ``worker``; on every line.
    """

    def add_origin(
        _logger: object, _method: str, line: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        line["role"] = role
        if served := request_id.get():
            line["request_id"] = served
        return line

    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_origin,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
