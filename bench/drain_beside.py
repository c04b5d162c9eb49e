"""Webhooks a second while a worker drains them, against without it.

Each tells that a payment is refused: the payment moves, its history grows and its saga comes to
rest, which is all of the drain's work and none of the outside services'.
"""

import sys
from pathlib import Path
from time import sleep

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.support import load, report, stage, traffic
from bench.support.clones import add_payments

READY_SECONDS = 30


def main() -> None:
    given = report.arguments(__doc__)
    with stage.service() as service, service.web() as web:

        def alone() -> float:
            return load.run(web.port, iter(refusals(service, given)), seconds=given.seconds).rate

        def beside() -> float:
            requests = refusals(service, given)
            with service.process([*stage.PYTHON, "app", "worker"]):
                load.run(web.port, iter([requests.pop()]))
                await_drained(service)
                outcome = load.run(web.port, iter(requests), seconds=given.seconds)
                left = service.count("inbox_work")
            if left >= outcome.answers:
                raise SystemExit("the worker drained nothing")
            print(f"{outcome.answers - left} of {outcome.answers} drained", file=sys.stderr)
            return outcome.rate

        report.compare("ingest beside the drain / alone", given, beside, alone, target=">= 0.85")


def refusals(service: stage.Service, given: report.Arguments) -> list[bytes]:
    """Return requests, each about a payment of its own; both rounds find the stores alike."""
    references = [
        traffic.reference() for _ in range(int(traffic.REQUESTS_A_SECOND_MAX * given.seconds))
    ]
    service.empty_inbox()
    add_payments(service.container, references)
    service.execute("CHECKPOINT")
    bodies = [traffic.authorisation(one, success=False) for one in references]
    return [load.request(traffic.PATH, body) for body in bodies]


def await_drained(service: stage.Service) -> None:
    """Return when the worker is there, and has drained what waits."""
    for _ in range(READY_SECONDS * 100):
        if not service.count("inbox_work"):
            return
        sleep(0.01)
    raise SystemExit("the worker is not there")


if __name__ == "__main__":
    main()
