"""Verified, deduplicated, durable webhooks a second, against a Flask route that does nothing."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.support import load, stage
from tests.support.builders import ACCOUNT, HMAC_KEY, a_webhook, an_item

CONNECTIONS = 32
PREPARED = 20_000

_numbers = count(1)


def webhooks() -> list[bytes]:
    """Unique signed webhooks, as requests."""
    headers = {"Content-Type": "application/json"}
    return [
        load.request(
            "/webhooks/adyen",
            a_webhook(an_item(psp_reference=f"BENCH{next(_numbers):012d}")),
            headers,
        )
        for _ in range(PREPARED)
    ]


def require_accepted(outcome: load.Outcome) -> load.Outcome:
    """A refused webhook is no throughput."""
    if set(outcome.statuses) != {200}:
        raise SystemExit(f"not every webhook was accepted: {outcome.statuses}")
    return outcome


def main() -> None:
    given = stage.arguments(__doc__)
    with (
        stage.service() as (container, environment),
        stage.web(environment) as port,
        stage.hello() as hello_port,
    ):
        container.accounts.add(ACCOUNT, [HMAC_KEY])
        sent: list[bytes] = []

        def new() -> float:
            requests = webhooks()
            outcome = load.run(port, iter(requests), connections=CONNECTIONS, seconds=given.seconds)
            sent[:] = requests[: len(outcome.latencies)]
            return require_accepted(outcome).rate

        def again() -> float:
            def repeated() -> Iterator[bytes]:
                while True:
                    yield from sent

            outcome = load.run(port, repeated(), connections=CONNECTIONS, seconds=given.seconds)
            return require_accepted(outcome).rate

        def limit() -> float:
            [request] = [load.request("/hello", a_webhook())]

            def repeated() -> Iterator[bytes]:
                while True:
                    yield request

            return load.run(
                hello_port, repeated(), connections=CONNECTIONS, seconds=given.seconds
            ).rate

        stage.compare("new webhooks / hello-world", given, new, limit, target=">= 0.65")
        stage.compare("duplicates / new webhooks", given, again, new, target=">= 1.2")


if __name__ == "__main__":
    main()
