"""Verified, deduplicated, durable webhooks a second, against other ways to take them.

All run under the same gunicorn settings, get the same bytes and take turns: a Flask route that does
nothing, the same route with one ORM session or one pooled connection and a commit a request, and
one that hands the verified webhook to Celery on Redis.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from redis import Redis

from bench.support import cpu, enqueue, load, naive, pool, report, stage, traffic
from tests.support import stores

#: The share of its own peak rate at which the service's latency is measured.
LATENCY_LOAD = 0.5

TABLES = (naive.TABLE, pool.TABLE)

REQUESTS = {
    "hello": "hello-world",
    "web": "new webhook",
    "again": "duplicate",
    "naive": "ORM and commit",
    "pool": "pool and commit",
    "enqueue": "enqueue to Celery",
}

# what                           measured    held against  target
COMPARISONS = (
    ("new webhooks / hello-world", "web",     "hello",      ">= 0.65, stretch 0.80"),
    ("duplicates / new webhooks",  "again",   "web",        ">= 1.2"),
    ("ingest / ORM and commit",    "web",     "naive",      ">= 3.5"),
    ("ingest / pool and commit",   "web",     "pool",       ">= 1.8"),
    ("ingest / enqueue to Celery", "web",     "enqueue",    ">= 2.5"),
)  # fmt: skip


class Ingest:
    """The service and its rivals, all up."""

    def __init__(
        self,
        service: stage.Service,
        servers: Mapping[str, stage.Server],
        broker: Redis,
        seconds: float,
    ) -> None:
        self._service = service
        self._servers = servers
        self._broker = broker
        self._seconds = seconds
        store_pids = service.store_pids()
        self.meters = {
            name: cpu.Meter({"web": server.pid, **store_pids}, own="load")
            for name, server in {**servers, "again": servers["web"]}.items()
        }

    def round(self) -> dict[str, float]:
        """Measure all in turn; return rates, and latencies in milliseconds."""
        self._empty()
        requests = traffic.plenty(self._seconds)
        outcomes = {"hello": self._run("hello", iter(requests))}
        outcomes["web"] = new = self._run("web", iter(requests))
        self._service.require_stored(new.answers, table="webhook_inbox")
        outcomes["again"] = self._run("web", cycle(requests[: new.answers]), name="again")
        self._service.require_stored(outcomes["again"].answers, table="webhook_redeliveries")
        self._service.require_stored(new.answers, table="webhook_inbox")
        for name, table in (("naive", naive.TABLE), ("pool", pool.TABLE)):
            outcomes[name] = self._run(name, iter(requests))
            self._service.require_stored(outcomes[name].answers, table=table)
        outcomes["enqueue"] = self._run("enqueue", iter(requests))
        self._require_enqueued(outcomes["enqueue"].answers)
        rates = {name: outcome.rate for name, outcome in outcomes.items()}
        pace = LATENCY_LOAD * new.rate
        return {
            **rates,
            "hello p99": self._p99_milliseconds("hello", pace),
            "web p99": self._p99_milliseconds("web", pace),
        }

    def _run(self, server: str, requests: Iterator[bytes], *, name: str = "") -> load.Outcome:
        meter = self.meters[name or server]
        before = meter.spent()
        outcome = load.run(self._servers[server].port, requests, seconds=self._seconds)
        meter.add(outcome.answers, since=before)
        return outcome

    def _p99_milliseconds(self, server: str, pace: float) -> float:
        requests = traffic.new(int(pace * self._seconds))
        port = self._servers[server].port
        latencies = load.run_at(port, iter(requests), rate=pace, seconds=self._seconds)
        return 1000 * load.percentile(latencies, 0.99)

    def _require_enqueued(self, number: int) -> None:
        queued = self._broker.llen(enqueue.QUEUE)
        if queued != number:
            raise SystemExit(f"{number} were acknowledged and {queued} are enqueued")

    def _empty(self) -> None:
        self._service.empty_inbox()
        self._service.execute(f"TRUNCATE {', '.join(TABLES)}")
        self._broker.flushall()


@contextmanager
def everything_up(seconds: float) -> Iterator[Ingest]:
    with ExitStack() as stack:
        service = stack.enter_context(stage.service())
        broker_url = stack.enter_context(stores.redis())
        for table in TABLES:
            service.execute(f"CREATE TABLE {table} (LIKE webhook_inbox INCLUDING ALL)")
        servers = {"web": stack.enter_context(service.web())}
        for name in ("hello", "naive", "pool"):
            servers[name] = stack.enter_context(service.peer(name))
        servers["enqueue"] = stack.enter_context(service.peer("enqueue", REDIS_URL=broker_url))
        yield Ingest(service, servers, Redis.from_url(broker_url), seconds)


def main() -> None:
    given = report.arguments(__doc__, cpu="print the CPU time of a request by kind of process")
    with everything_up(given.seconds) as ingest:
        rounds = [ingest.round() for _ in range(given.rounds)]
    for name, measured, limit, target in COMPARISONS:
        pairs = [(one[measured], one[limit]) for one in rounds]
        report.show(name, given, pairs, target=target)
    report.show(
        "p99 at half the ingest's peak / hello-world's",
        given,
        [(one["web p99"], one["hello p99"]) for one in rounds],
        target="<= 2",
        unit=" ms",
    )
    if "cpu" in given.flags:
        for name, what in REQUESTS.items():
            parts = ingest.meters[name].microseconds
            report.show_parts(f"CPU of a request, {what}", given, parts, unit=" µs")


if __name__ == "__main__":
    main()
