"""``python -m simulator``: start everything, wait for SIGTERM or SIGINT, stop everything."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.application import create_application
from simulator.database import Database
from simulator.delivery import Delivery
from simulator.mail import mail_server
from simulator.server import HOST, Server
from simulator.settings import Settings
from simulator.world import World

USAGE_ERROR = 2
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes.

    Returns:
        0 after SIGTERM or SIGINT, 1 if a port is taken, 2 if the settings are wrong.
    """
    # Blocked before any thread exists, so that every thread leaves them to sigwait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(
            os.environ,  # noqa: TID251 - the only place of this package that reads it
            port=options.port,
            smtp_port=options.smtp_port,
            home=options.home,
            webhook_url=options.webhook_url,
        )
    except ValueError as problem:
        _say(str(problem))
        return USAGE_ERROR
    return _serve(settings)


def _serve(settings: Settings) -> int:
    """Start the parts, wait, and stop them in the opposite order."""
    database = Database(settings.home / "simulator.sqlite3")
    delivery = Delivery(database, settings)
    mail = mail_server(database, settings.smtp_port)
    try:
        server = Server(
            settings.port, create_application(World(settings, database, delivery)).wsgi_app
        )
        mail.start()
    except OSError as problem:
        _say(f"can't listen on port {settings.port} or {settings.smtp_port}: {problem.strerror}")
        return 1
    delivery.start()
    server.start()
    _say(f"http://{HOST}:{server.port}, mail on port {settings.smtp_port}")
    signal.sigwait(STOP_SIGNALS)
    server.stop()
    mail.stop()
    delivery.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator",
        description="The PSP, the booking service, the fraud check and the mail server, simulated.",
        epilog="Secrets come from SIMULATOR_API_KEY, SIMULATOR_HMAC_KEY (hexadecimal) and "
        "SIMULATOR_MERCHANT_ACCOUNT; SIMULATOR_BASIC_USER, SIMULATOR_BASIC_PASSWORD, "
        "SIMULATOR_SPEEDUP and SIMULATOR_LATE_WEBHOOK_SECONDS are optional.",
    )
    parser.add_argument("--port", type=int, default=8001, help="HTTP port (default 8001)")
    parser.add_argument("--smtp-port", type=int, default=8025, help="SMTP port (default 8025)")
    parser.add_argument(
        "--home", type=Path, default=Path("var/simulator"), help="folder of its database"
    )
    parser.add_argument(
        "--webhook-url",
        default="http://127.0.0.1:8000/webhooks/adyen",
        help="where webhooks are posted",
    )
    return parser


def _say(message: str) -> None:
    """Write one line for the operator."""
    sys.stderr.write(f"simulator: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
