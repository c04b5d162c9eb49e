"""Webhooks a second from the inbox through the state machine, against ingesting them."""

import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.bootstrap import Container, new_id
from app.services.start_payment import start_payment
from bench.support import stage
from tests.support.builders import ACCOUNT, HMAC_KEY, a_start, a_webhook, an_item
from webhooks.inbox import Verified
from webhooks.notifications import parse

PAYMENTS = 300


def main() -> None:
    given = stage.arguments(__doc__)
    with stage.service() as (container, _environment):
        container.accounts.add(ACCOUNT, [HMAC_KEY])
        stage.compare(
            "drain / ingest, one process, one thread",
            given,
            lambda: _drain(container),
            lambda: _ingest(container, [new_id().hex for _ in range(PAYMENTS)]),
            target=">= 1.0",
        )


def _drain(container: Container) -> float:
    references = [new_id().hex for _ in range(PAYMENTS)]
    for reference in references:
        start_payment(
            a_start(key=reference, merchant_reference=reference),
            answer_now=None,
            unit_of_work=container.unit_of_work,
            clock=container.clock,
            new_id=new_id,
        )
    while container.drain.run_next():
        pass
    _ingest(container, references)
    begun_at = perf_counter()
    applied = 0
    while container.drain.run_next():
        applied += 1
    if applied < PAYMENTS:
        raise SystemExit(f"only {applied} of {PAYMENTS} webhooks were applied")
    return applied / (perf_counter() - begun_at)


def _ingest(container: Container, references: list[str]) -> float:
    bodies = [
        a_webhook(an_item(psp_reference=reference[:16].upper(), merchant_reference=reference))
        for reference in references
    ]
    begun_at = perf_counter()
    for body in bodies:
        container.inbox.store(body, [Verified(one, new_id()) for one in parse(body)])
    return len(bodies) / (perf_counter() - begun_at)


if __name__ == "__main__":
    main()
