"""Resident memory of a web process after many webhooks, against after the first thousands.

Every other webhook is a duplicate of the one before it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil

from bench.support import load, report, stage, traffic

FEW = 10_000
MANY = 100_000
MANY_FULL = 1_000_000


def main() -> None:
    given = report.arguments(__doc__, rounds=1, full=f"{MANY_FULL:,} webhooks instead of {MANY:,}")
    many = MANY_FULL if "full" in given.flags else MANY
    report.show(
        f"memory after {many:,} webhooks / after {FEW:,}",
        given,
        [process for _ in range(given.rounds) for process in grown(many)],
        target="<= 1.1",
        unit=" MB",
        each="processes",
    )


def grown(many: int) -> list[tuple[float, float]]:
    """Return each fresh web process's megabytes after ``many`` webhooks, and after few."""
    with stage.service() as service, service.web() as web:
        service.empty_inbox()
        workers = psutil.Process(web.pid).children()
        load.run(web.port, webhooks(FEW))
        after_few = megabytes(workers)
        load.run(web.port, webhooks(many - FEW))
        after_many = megabytes(workers)
        service.require_stored(many // 2, table="webhook_inbox")
        service.require_stored(many // 2, table="webhook_redeliveries")
        return list(zip(after_many, after_few, strict=True))


def webhooks(number: int) -> Iterator[bytes]:
    for _ in range(number // 2):
        [request] = traffic.new(1)
        yield request
        yield request


def megabytes(workers: list[psutil.Process]) -> list[float]:
    """Return the resident memory of each; one that was replaced meanwhile ends the run."""
    return [worker.memory_info().rss / 1e6 for worker in workers]


if __name__ == "__main__":
    main()
