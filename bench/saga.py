"""Saga steps a second with instant peers, against a bare claim-update-commit loop."""

import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import text

from app.bootstrap import Container, new_id
from app.services.start_payment import start_payment
from bench.support import report, stage
from tests.support.builders import a_start
from tests.support.fakes import FakeOutside

PAYMENTS = 200
LOOPS = 600

_CLAIM = text(
    """
    UPDATE claims SET version = version + 1
     WHERE id = (SELECT id FROM claims WHERE due <= now() ORDER BY due
                 FOR UPDATE SKIP LOCKED LIMIT 1)
    RETURNING id
    """
)
_RESULT = text("UPDATE claims SET due = now() WHERE id = :id")


def main() -> None:
    given = report.arguments(__doc__)
    with stage.service() as service:
        container = replace(service.container, outside=FakeOutside().participants())
        with container.engine.begin() as connection:
            connection.execute(
                text(
                    "CREATE TABLE claims AS SELECT id, 0 AS version, now() AS due"
                    " FROM generate_series(1, 1000) id"
                )
            )
        report.compare(
            "saga steps / claim-update-commit",
            given,
            lambda: _steps(container),
            lambda: _bare(container),
            target=">= 0.4",
        )


def _steps(container: Container) -> float:
    """Run the two steps that need no webhook: fraud check and preauth."""
    for _ in range(PAYMENTS):
        reference = new_id().hex
        start_payment(
            a_start(key=reference, merchant_reference=reference),
            answer_now=None,
            unit_of_work=container.unit_of_work,
            clock=container.clock,
            new_id=new_id,
        )
    begun_at = perf_counter()
    runs = 0
    while container.runner.run_next():
        runs += 1
    if runs != PAYMENTS:
        raise SystemExit(f"{runs} sagas ran instead of {PAYMENTS}")
    return 2 * runs / (perf_counter() - begun_at)


def _bare(container: Container) -> float:
    begun_at = perf_counter()
    for _ in range(LOOPS):
        with container.engine.begin() as connection:
            [claimed] = connection.execute(_CLAIM).scalars()
        with container.engine.begin() as connection:
            connection.execute(_RESULT, {"id": claimed})
    return LOOPS / (perf_counter() - begun_at)


if __name__ == "__main__":
    main()
