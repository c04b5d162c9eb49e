"""Webhooks a second from the inbox through the state machine, against taking them in over HTTP.

The same webhooks are posted, then drained: by the drain of a worker, in one thread of one process,
while no saga runs and nothing is posted.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.support import cpu, load, report, stage, traffic
from bench.support.clones import add_payments

#: So many for each second that is asked for, however long they take.
WEBHOOKS_A_SECOND = 2000
#: A capture follows so many authorisations later, and a refund so many more.
LATER = 500

#: What each webhook leaves in its payment's history, and what each authorisation leaves.
FACTS = "payment_events WHERE kind = 'fact_recorded'"
MOVES = "payment_events WHERE kind = 'flow_moved'"

#: Payments by their references, and the webhooks about them.
Story = tuple[list[str], list[bytes]]


def main() -> None:
    given = report.arguments(__doc__, cpu="print the CPU time of an event by kind of process")
    number = int(WEBHOOKS_A_SECOND * given.seconds)
    with stage.service() as service, service.web() as web:
        service.empty_inbox()
        for name, tell in (
            ("authorisations", authorisations),
            ("authorisations, captures and refunds", lifetimes),
        ):
            meter = cpu.Meter(service.store_pids(), own="worker")
            rounds = [
                drained_and_taken_in(service, web, tell(number), meter) for _ in range(given.rounds)
            ]
            report.show(f"drain of {name} / ingest", given, rounds, target=">= 1.0, stretch 3")
            if "cpu" in given.flags:
                report.show_parts(f"CPU of an event, {name}", given, meter.microseconds, unit=" µs")


def drained_and_taken_in(
    service: stage.Service, web: stage.Server, story: Story, meter: cpu.Meter
) -> tuple[float, float]:
    """Post webhooks, then drain them; return both rates, the drain's first."""
    references, bodies = story
    add_payments(service.container, references)
    requests = [load.request(traffic.PATH, body) for body in bodies]
    taken_in = load.run(web.port, iter(requests))
    service.require_stored(len(bodies), table="inbox_work")
    facts, moves = (service.count(events) for events in (FACTS, MOVES))
    drain = service.container.drain
    before = meter.spent()
    begun_at = perf_counter()
    while drain.run_next():
        pass
    seconds = perf_counter() - begun_at
    meter.add(len(bodies), since=before)
    service.require_stored(facts + len(bodies), table=FACTS)
    service.require_stored(moves + len(references), table=MOVES)
    return len(bodies) / seconds, taken_in.rate


def authorisations(number: int) -> Story:
    """Return payments, and the authorisation of each: the flow moves, and its saga follows."""
    references = [traffic.reference() for _ in range(number)]
    return references, [traffic.authorisation(one) for one in references]


def lifetimes(number: int) -> Story:
    """Return payments, and what happens to each, as it comes in when many are under way."""
    references = [traffic.reference() for _ in range(number // 3)]
    told = [
        (place + LATER * stage_of_life, body)
        for place, reference in enumerate(references)
        for stage_of_life, body in enumerate(_lifetime(reference))
    ]
    return references, [body for _place, body in sorted(told, key=lambda one: one[0])]


def _lifetime(reference: str) -> Sequence[bytes]:
    def modification(event_code: str) -> bytes:
        return traffic.body(
            event_code,
            psp_reference=traffic.reference(),
            merchant_reference=reference,
            original_reference=reference,
        )

    return (traffic.authorisation(reference), modification("CAPTURE"), modification("REFUND"))


if __name__ == "__main__":
    main()
