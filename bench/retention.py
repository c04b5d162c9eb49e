"""Webhooks a second while retention deletes old ones, against without it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import sleep

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import text

from app.bootstrap import Container
from bench.support import load, report, stage, traffic
from tests.support.builders import ACCOUNT

#: More than retention deletes in the meantime.
OLD = 200_000

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
    given = report.arguments(__doc__)
    with stage.service() as service, service.web() as web:

        def ingest(requests: list[bytes]) -> float:
            return load.run(web.port, iter(requests), seconds=given.seconds).rate

        def alone() -> float:
            return ingest(traffic.plenty(given.seconds))

        def beside() -> float:
            _store_old(service.container)
            requests = traffic.plenty(given.seconds)
            with _retention(service):
                return ingest(requests)

        report.compare("ingest beside retention / alone", given, beside, alone, target=">= 0.85")


def _store_old(container: Container) -> None:
    with container.engine.begin() as connection:
        connection.execute(
            _STORE_OLD,
            {
                "account": ACCOUNT,
                "body": traffic.authorisation(traffic.reference()),
                "number": OLD,
                "now": container.clock.now(),
            },
        )


@contextmanager
def _retention(service: stage.Service) -> Iterator[None]:
    """Retention in a process of its own, at work for as long as the block."""
    before = _count_old(service.container)
    with service.process([*stage.PYTHON, "app", "retention", "--json"]) as process:
        while _count_old(service.container) == before and process.poll() is None:
            sleep(0.01)
        yield
        is_through = process.poll() is not None
    if is_through:
        raise SystemExit("retention ended before the measurement did")
    deleted = before - _count_old(service.container)
    print(f"{deleted} old webhooks were deleted meanwhile", file=sys.stderr)


def _count_old(container: Container) -> int:
    horizon = container.clock.now() - timedelta(days=container.settings.inbox_days)
    counted = text("SELECT count(*) FROM webhook_inbox WHERE received_at < :horizon")
    with container.engine.connect() as connection:
        return int(connection.execute(counted, {"horizon": horizon}).scalar_one())


if __name__ == "__main__":
    main()
