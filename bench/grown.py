"""Webhooks a second into an inbox of millions, against into an empty one.

Two services, each on a Postgres of its own. A million rows and their indexes take some 0.9 GB of
disk, and the write-ahead log up to 1 GB beside them: `--full` needs 6 GB, and some minutes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import text

from bench.support import load, report, stage, traffic
from tests.support.builders import ACCOUNT

ROWS = 1_000_000
ROWS_FULL = 5_000_000
#: Rows of one transaction.
BATCH = 250_000

#: GUIDs and references in no order, so that a new row's place in the indexes is anywhere.
_FILL = text(
    """
    INSERT INTO webhook_inbox (
        guid, merchant_account, event_code, success, psp_reference, original_reference,
        merchant_reference, body, is_live, event_date, received_at)
    SELECT gen_random_uuid(), :account, 'AUTHORISATION', true, reference, '', reference,
           convert_to(replace(:body, :placeholder, reference), 'UTF8'), false, at, at
      FROM generate_series(1, :number) AS n,
           LATERAL (SELECT upper(left(md5(random()::text || n), 16)),
                           CAST(:now AS timestamptz) - random() * interval '300 days'
           ) AS a (reference, at)
    """
)


def main() -> None:
    given = report.arguments(__doc__, full=f"{ROWS_FULL:,} rows instead of {ROWS:,}")
    rows = ROWS_FULL if "full" in given.flags else ROWS
    with (
        stage.service() as grown,
        stage.service() as empty,
        grown.web() as grown_web,
        empty.web() as empty_web,
    ):
        fill(grown, rows)

        def rate(service: stage.Service, web: stage.Server) -> float:
            requests = traffic.plenty(given.seconds)
            before = service.count("inbox_work")
            outcome = load.run(web.port, iter(requests), seconds=given.seconds)
            service.require_stored(before + outcome.answers, table="inbox_work")
            return outcome.rate

        def into_empty() -> float:
            empty.empty_inbox()
            return rate(empty, empty_web)

        def into_grown() -> float:
            grown.execute("TRUNCATE inbox_work")
            return rate(grown, grown_web)

        name = f"ingest with {rows:,} webhooks in the inbox / with none"
        report.compare(name, given, into_grown, into_empty, target=">= 0.9")


def fill(service: stage.Service, rows: int) -> None:
    """Fill the inbox, and let Postgres tidy up before anything is measured."""
    placeholder = traffic.reference()
    values = {
        "account": ACCOUNT,
        "body": traffic.authorisation(placeholder).decode(),
        "placeholder": placeholder,
        "number": BATCH,
        "now": service.container.clock.now(),
    }
    for _ in range(rows // BATCH):
        with service.container.engine.begin() as connection:
            connection.execute(_FILL, values)
    service.execute("VACUUM ANALYZE webhook_inbox", "CHECKPOINT")
    size = service.ask("SELECT pg_size_pretty(pg_total_relation_size('webhook_inbox'))")
    print(f"{rows:,} webhooks take {size}", file=sys.stderr)


if __name__ == "__main__":
    main()
