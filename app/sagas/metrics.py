"""What one process sees of its sagas, as Prometheus metrics."""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Histogram

from app.sagas.moving import Called
from app.sagas.orchestrator import Advance
from app.sagas.runner import Advances

#: Sagas that one transaction moved.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class SagaMetrics:
    """The metrics. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics."""
        self.claimed = Counter(
            "countersign_sagas_claimed",
            "Sagas that were found due, and claimed.",
            registry=registry,
        )
        self.settled = Counter(
            "countersign_saga_turns_settled",
            "Turns whose calls came back and were written down.",
            registry=registry,
        )
        self.unsettled = Counter(
            "countersign_saga_turns_unsettled",
            "Times that a turn could not be written down yet: others were in the way.",
            registry=registry,
        )
        self.batch = Histogram(
            "countersign_saga_batch_size",
            "Sagas that one transaction moved; those that moved none do not count.",
            registry=registry,
            buckets=BATCH_SIZES,
        )
        self.seconds = Histogram(
            "countersign_saga_transaction_seconds",
            "How long those transactions took.",
            registry=registry,
        )
        self.errors = Counter(
            "countersign_saga_transactions_failed",
            "Transactions that wrote nothing, by what went wrong.",
            ["error"],
            registry=registry,
        )


class MeasuredOrchestrator:
    """An orchestrator that counts what another one does for it."""

    def __init__(self, orchestrator: Advances, metrics: SagaMetrics) -> None:
        """Hand everything to ``orchestrator``."""
        self._orchestrator = orchestrator
        self._metrics = metrics

    def advance(
        self,
        called: Sequence[Called] = (),
        *,
        claims_max: int = 0,
        payment_id: UUID | None = None,
        as_of: datetime | None = None,
        goes_on: bool = True,
    ) -> Advance:
        """Do as ``Orchestrator.advance`` does, and count it."""
        began = monotonic()
        try:
            advance = self._orchestrator.advance(
                called,
                claims_max=claims_max,
                payment_id=payment_id,
                as_of=as_of,
                goes_on=goes_on,
            )
        except Exception as error:
            self._metrics.errors.labels(type(error).__name__).inc()
            raise
        settled = len(called) - len(advance.unsettled)
        self._metrics.claimed.inc(advance.claimed)
        self._metrics.settled.inc(settled)
        self._metrics.unsettled.inc(len(advance.unsettled))
        if moved := settled + advance.claimed:
            self._metrics.batch.observe(moved)
            self._metrics.seconds.observe(monotonic() - began)
        return advance
