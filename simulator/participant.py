"""``python -m simulator.participant``: the booking service, as a participant that lives elsewhere.

It takes the ``booking`` commands of the product over HTTP, has the booking service of the simulator
carry them out, and answers. The books over there remember what was confirmed under which key, and
what was cancelled although it was never seen, so that this process remembers nothing and may die at
any instant. What gets no answer there gets none here: the lease ends, and the command comes again.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2

COMMANDS_AT_ONCE = 8
IDLE_SECONDS = 0.5  #: Between two looks, while there is nothing to do.
AWAY_SECONDS = 1.0  #: The same while the product can't be reached.
PRODUCT_SECONDS = 10.0  #: Patience with the product.
BOOKING_SECONDS = 2.0  #: Patience with the booking service; a lease must be longer.

PATHS = {"confirm": "/bookings/confirmations", "cancel": "/bookings/cancellations"}

Command = Mapping[str, Any]
Answer = tuple[bool, Mapping[str, Any]]


class KeyRefused(Exception):
    """The product does not take the API key."""


class Participant:
    """Takes commands, has them carried out, and answers, until it is told to stop."""

    def __init__(
        self,
        product: httpx2.Client,
        bookings: httpx2.Client,
        *,
        lease_seconds: int,
        answer_after_seconds: float,
    ) -> None:
        """Speak through two clients.

        Args:
            product: Where commands are taken and answered.
            bookings: Where they are carried out.
            lease_seconds: For how long a command is asked for.
            answer_after_seconds: How long every answer is held back, for those who want to watch
                what happens meanwhile.
        """
        self._product = product
        self._bookings = bookings
        self._lease_seconds = lease_seconds
        self._answer_after_seconds = answer_after_seconds
        self._stopping = threading.Event()

    def stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Take no further commands."""
        self._stopping.set()

    def run(self) -> None:
        """Work until told to stop.

        Raises:
            KeyRefused: The product does not take the API key.
        """
        with ThreadPoolExecutor(COMMANDS_AT_ONCE) as pool:
            while not self._stopping.is_set():
                try:
                    commands = self._take()
                except httpx2.HTTPError as error:
                    _say(f"no commands can be taken: {type(error).__name__}")
                    self._stopping.wait(AWAY_SECONDS)
                    continue
                list(pool.map(self._serve, commands))
                if not commands:
                    self._stopping.wait(IDLE_SECONDS)

    def _take(self) -> Sequence[Command]:
        """Return the next commands; empty if there are none."""
        asked = {"limit": COMMANDS_AT_ONCE, "lease_seconds": self._lease_seconds}
        answer = self._product.post("/commands/claims", json=asked)
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise KeyRefused(f"the product answered {answer.status_code}")
        answer.raise_for_status()
        items: Sequence[Command] = answer.json()["items"]
        return items

    def _serve(self, command: Command) -> None:
        """Carry out one command, and answer if there is anything to say.

        An answer that does not arrive is no harm: the command comes again, under the same key.
        """
        said = self._carry_out(command)
        if said is None or self._stopping.wait(self._answer_after_seconds):
            return
        success, data = said
        path = f"/commands/{command['message_id']}/response"
        try:
            answer = self._product.post(path, json={"success": success, "data": data})
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            _say(f"an answer did not arrive: {type(error).__name__}")

    def _carry_out(self, command: Command) -> Answer | None:
        """Ask the booking service; None if its answer does not say what happened."""
        data = command["data"]
        asked = {"reference": data["booking_reference"], "payment_id": data["payment_id"]}
        try:
            answer = self._bookings.post(
                PATHS[command["operation"]],
                json=asked,
                headers={"Idempotency-Key": command["idempotency_key"]},
            )
        except httpx2.HTTPError:
            return None
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.CONFLICT}:
            return None
        return answer.status_code == HTTPStatus.OK, answer.json()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT.

    Returns:
        0 when told to stop, 1 if the product does not take the API key.
    """
    options = _parser().parse_args(arguments)
    api_key = options.api_key or options.api_key_file.read_text().strip()
    token = options.booking_token or options.booking_token_file.read_text().strip()
    with (
        _client(options.url, api_key, PRODUCT_SECONDS) as product,
        _client(options.booking_url, token, BOOKING_SECONDS) as bookings,
    ):
        participant = Participant(
            product,
            bookings,
            lease_seconds=options.lease_seconds,
            answer_after_seconds=options.answer_after,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, participant.stop)
        _say(f"takes booking commands at {options.url}")
        try:
            participant.run()
        except KeyRefused as refusal:
            _say(str(refusal))
            return 1
    return 0


def _client(url: str, token: str, patience_seconds: float) -> httpx2.Client:
    """Return a client that carries its token."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx2.Client(base_url=url, headers=headers, timeout=patience_seconds)


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator.participant",
        description="Takes booking commands over HTTP; the simulator's books carry them out.",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the product")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--api-key", help="a key made with --role participant --service booking")
    keys.add_argument("--api-key-file", type=Path, help="a file that holds it")
    parser.add_argument(
        "--booking-url", default="http://127.0.0.1:8001", help="the simulator's booking service"
    )
    tokens = parser.add_mutually_exclusive_group()
    tokens.add_argument("--booking-token", help="its bearer token")
    tokens.add_argument(
        "--booking-token-file",
        type=Path,
        default=Path("var/simulator.key"),
        help="a file that holds it (default var/simulator.key)",
    )
    parser.add_argument(
        "--lease-seconds", type=int, default=30, help="for how long a command is taken (default 30)"
    )
    parser.add_argument(
        "--answer-after",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="hold every answer back, to watch what happens meanwhile",
    )
    return parser


def _say(message: str) -> None:
    """Write one line for the operator."""
    sys.stderr.write(f"participant: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
