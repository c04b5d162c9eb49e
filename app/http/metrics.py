"""GET /metrics: what the database knows, as Prometheus gauges.

Everything is read from Postgres when it is asked for: every web process tells the same truth,
and no counter is lost with a process. Labels hold no account and no reference.
"""

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, TextClause, text

from app.clock import Clock

_PAYMENTS = text("SELECT state, count(*) FROM payments GROUP BY state")
_WORK = text("SELECT state, count(*) FROM inbox_work GROUP BY state")
_OLDEST_WEBHOOK = text("SELECT min(due) FROM inbox_work WHERE state = 'new'")
_OLDEST_SAGA = text("SELECT min(due) FROM saga_instances WHERE due IS NOT NULL")
_BREAKS = text("SELECT kind, count(*) FROM breaks WHERE state = 'open' GROUP BY kind")


class _Exporter(Collector):
    def describe(self) -> Iterator[Metric]:
        """Name nothing before the first scrape: the registry would ask the database for it."""
        return iter(())

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        with self._engine.connect() as connection:
            yield _by_label(connection, "payments", "Payments by flow state.", "state", _PAYMENTS)
            yield _by_label(
                connection, "webhooks_waiting", "Stored webhooks not applied.", "state", _WORK
            )
            yield _by_label(connection, "breaks_open", "Open breaks by kind.", "kind", _BREAKS)
            yield self._overdue(
                connection,
                "oldest_webhook_overdue_seconds",
                "How long the oldest unapplied webhook has been due.",
                _OLDEST_WEBHOOK,
            )
            yield self._overdue(
                connection,
                "oldest_saga_overdue_seconds",
                "How long the oldest due saga has waited for a worker.",
                _OLDEST_SAGA,
            )

    def _overdue(
        self, connection: Connection, name: str, what: str, query: TextClause
    ) -> GaugeMetricFamily:
        due = connection.execute(query).scalar_one()
        seconds = 0.0 if due is None else (self._clock.now() - due).total_seconds()
        gauge = GaugeMetricFamily(f"countersign_{name}", what)
        gauge.add_metric([], max(seconds, 0.0))
        return gauge


def create_blueprint(engine: Engine, clock: Clock) -> Blueprint:
    """Build the metrics route."""
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(_Exporter(engine, clock))

    @blueprint.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint


def _by_label(
    connection: Connection, name: str, what: str, label: str, query: TextClause
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"countersign_{name}", what, labels=[label])
    for value, count in connection.execute(query):
        gauge.add_metric([value], count)
    return gauge
