"""Webhooks a second while retention deletes old ones, against without it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from time import sleep

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import text

from app.bootstrap import Container
from app.settings import process_environment
from bench.support import load, stage
from tests.support.builders import ACCOUNT, HMAC_KEY, a_webhook, an_item

CONNECTIONS = 32
#: More than the web processes store while a measurement lasts.
PREPARED = 20_000
#: More than retention deletes in the meantime.
OLD = 200_000

_numbers = count(1)

#: Webhooks of the size of real ones, done longer ago than any horizon.
_STORE_OLD = text(
    """
    INSERT INTO webhook_inbox (
        guid, merchant_account, event_code, success, psp_reference, original_reference,
        merchant_reference, body, is_live, event_date, received_at)
    SELECT gen_random_uuid(), :account, 'CAPTURE', TRUE, 'OLD' || n, '', 'ORDER-' || n, :body,
           FALSE, at, at
      FROM generate_series(1, :number) AS n,
           LATERAL (SELECT CAST(:now AS timestamptz) - interval '500 days'
                           + n * interval '1 second') AS a (at)
    """
)


def main() -> None:
    given = stage.arguments(__doc__)
    with stage.service() as (container, environment), stage.web(environment) as port:
        container.accounts.add(ACCOUNT, [HMAC_KEY])

        def alone() -> float:
            return _ingest(port, _webhooks(), given.seconds)

        def beside() -> float:
            _store_old(container)
            prepared = _webhooks()
            with _retention(container, environment):
                return _ingest(port, prepared, given.seconds)

        stage.compare("ingest beside retention / alone", given, beside, alone, target=">= 0.85")


def _webhooks() -> list[bytes]:
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


def _ingest(port: int, requests: list[bytes], seconds: float) -> float:
    outcome = load.run(port, iter(requests), connections=CONNECTIONS, seconds=seconds)
    if set(outcome.statuses) != {200}:
        raise SystemExit(f"not every webhook was accepted: {outcome.statuses}")
    return outcome.rate


def _store_old(container: Container) -> None:
    with container.engine.begin() as connection:
        connection.execute(
            _STORE_OLD,
            {"account": ACCOUNT, "body": a_webhook(), "number": OLD, "now": container.clock.now()},
        )


@contextmanager
def _retention(container: Container, environment: Mapping[str, str]) -> Iterator[None]:
    """Retention in a process of its own, at work for as long as the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "retention", "--json"],
        cwd=stage.ROOT,
        env={**process_environment(), **environment},
        stdout=subprocess.DEVNULL,
    )
    before = _count_old(container)
    while _count_old(container) == before and process.poll() is None:
        sleep(0.01)
    yield
    is_through = process.poll() is not None
    process.kill()
    process.wait(30)
    if is_through:
        raise SystemExit("retention ended before the measurement did")
    deleted = before - _count_old(container)
    print(f"{deleted} old webhooks were deleted meanwhile", file=sys.stderr)


def _count_old(container: Container) -> int:
    horizon = container.clock.now() - timedelta(days=container.settings.inbox_days)
    counted = text("SELECT count(*) FROM webhook_inbox WHERE received_at < :horizon")
    with container.engine.connect() as connection:
        return int(connection.execute(counted, {"horizon": horizon}).scalar_one())


if __name__ == "__main__":
    main()
