"""GET /metrics: what the database knows, as Prometheus gauges.

Everything is read from Postgres when it is asked for: every web process tells the same truth,
and no counter is lost with a process. Labels hold no account and no reference.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, TextClause, text

from app.clock import Clock
from app.domain.saga import SagaStatus
from app.errors import WebhookRefused
from app.queries.psp_queue import (
    last_webhooks,
    redeliveries_last_hour,
    refusals_last_hour,
    refused_webhooks,
)
from app.queries.reviews import backlog
from app.queries.waiting import oldest_orphan_at

_PAYMENTS = text("SELECT state, count(*) FROM payments GROUP BY state")
_WORK = text("SELECT state, count(*) FROM inbox_work GROUP BY state")
_OLDEST_WEBHOOK = text("SELECT min(due) FROM inbox_work WHERE state = 'new'")
# Those that rest are all that ever were; these are in an index of their own.
_SAGAS = text("SELECT status, count(*) FROM saga_instances WHERE due IS NOT NULL GROUP BY status")
_OLDEST_SAGA = text(
    """
    SELECT due FROM saga_instances
     WHERE due <= :now AND (lease_until IS NULL OR lease_until <= :now)
     ORDER BY due LIMIT 1
    """
)
_OFFERED = text(
    """
    SELECT service_id, count(*) AS commands, min(timestamp) AS oldest_at FROM commands
     WHERE offered_until > :now GROUP BY service_id
    """
)
_BREAKS = text("SELECT kind, count(*) FROM breaks WHERE state = 'open' GROUP BY kind")


class _Exporter(Collector):
    def describe(self) -> Iterator[Metric]:
        """Name nothing before the first scrape: the registry would ask the database for it."""
        return iter(())

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        now = self._clock.now()
        with self._engine.connect() as connection:
            yield from _work(connection, now)
            yield from _sagas(connection, now)
            yield from _desk(connection, now)
            yield from _psp_queue(connection, now)


def create_blueprint(engine: Engine, clock: Clock) -> Blueprint:
    """Build the metrics route."""
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(_Exporter(engine, clock))

    @blueprint.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint


def _work(connection: Connection, now: datetime) -> Iterator[Metric]:
    """Tell what moves and what waits."""
    for name, what, label, query in (
        ("payments", "Payments by flow state.", "state", _PAYMENTS),
        ("webhooks_waiting", "Stored webhooks not applied.", "state", _WORK),
        ("breaks_open", "Open breaks by kind.", "kind", _BREAKS),
    ):
        counts = {row[0]: row[1] for row in connection.execute(query)}
        yield _by_label(name, what, label, counts)
    yield _gauge(
        "oldest_webhook_overdue_seconds",
        "How long the oldest unapplied webhook has been due.",
        _seconds_since(_time(connection, _OLDEST_WEBHOOK), now),
    )
    yield _gauge(
        "orphans_oldest_seconds",
        "How long the oldest webhook without its payment has waited for it.",
        _seconds_since(oldest_orphan_at(connection), now),
    )


def _sagas(connection: Connection, now: datetime) -> Iterator[Metric]:
    """Tell whether sagas find their workers, and commands their participants."""
    under_way = {row[0]: row[1] for row in connection.execute(_SAGAS)}
    yield _by_label(
        "sagas",
        "Sagas whose payment does not rest, by what they do.",
        "status",
        {status: under_way.get(status, 0) for status in (SagaStatus.RUNNING, SagaStatus.WAITING)},
    )
    yield _gauge(
        "oldest_saga_overdue_seconds",
        "How long the oldest due saga has waited for a worker.",
        _seconds_since(connection.execute(_OLDEST_SAGA, {"now": now}).scalar(), now),
    )
    offered = connection.execute(_OFFERED, {"now": now}).all()
    yield _by_label(
        "commands_offered",
        "Commands that wait for a participant elsewhere or its response.",
        "service_id",
        {row.service_id: row.commands for row in offered},
    )
    yield _by_label(
        "commands_offered_oldest_seconds",
        "How long the oldest of them has waited.",
        "service_id",
        {row.service_id: _seconds_since(row.oldest_at, now) for row in offered},
    )


def _desk(connection: Connection, now: datetime) -> Iterator[Metric]:
    """Tell what waits for a person."""
    waiting = backlog(connection)
    yield _gauge("reviews_open", "Payments that wait for a person.", waiting.reviews)
    yield _gauge(
        "reviews_oldest_seconds",
        "How long the oldest of them has waited.",
        _seconds_since(waiting.oldest_at, now),
    )


def _psp_queue(connection: Connection, now: datetime) -> Iterator[Metric]:
    """Tell whether the PSP gets through to us."""
    refused = refused_webhooks(connection, now=now)
    yield _gauge(
        "psp_queue_blocked_seconds",
        "How long the PSP, by what is claimed, has been trying the longest refused webhook.",
        _seconds_since(refused[0].since if refused else None, now),
    )
    yield _gauge(
        "webhook_redeliveries_last_hour",
        "Deliveries of webhooks that had been accepted before.",
        redeliveries_last_hour(connection, now=now),
    )
    yield _by_label(
        "webhooks_refused_last_hour",
        "Refused deliveries that were kept, by error code; kept within bounds.",
        "code",
        dict.fromkeys(_refusal_codes(), 0) | refusals_last_hour(connection, now=now),
    )
    heard = [at for at in last_webhooks(connection).values() if at is not None]
    ages = {"min": max(heard), "max": min(heard)} if heard else {}
    yield _by_label(
        "last_webhook_age_seconds",
        "Time since the last webhook of the account heard of last (min) and of the quietest (max).",
        "across_accounts",
        {which: _seconds_since(at, now) for which, at in ages.items()},
    )


def _refusal_codes() -> list[str]:
    """Return every code of a refusal: one that has not happened is told as 0, not left out."""
    return [refusal.code for refusal in WebhookRefused.__subclasses__()]


def _time(connection: Connection, query: TextClause) -> datetime | None:
    at: datetime | None = connection.execute(query).scalar_one()
    return at


def _seconds_since(at: datetime | None, now: datetime) -> float:
    """Return how long ago it was; 0 if it never was, or is to come."""
    return 0.0 if at is None else max((now - at).total_seconds(), 0.0)


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"countersign_{name}", what, value=value)


def _by_label(name: str, what: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"countersign_{name}", what, labels=[label])
    for value, count in values.items():
        gauge.add_metric([value], count)
    return gauge
