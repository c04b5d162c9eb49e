"""Payments by the thousand that wait for their authorisation, each a copy of a real one."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import text

from app.bootstrap import Container, new_id
from app.services.start_payment import start_payment
from tests.support.builders import a_start
from tests.support.fakes import FakeOutside

#: Every copy has its own ids and references. Its history is sealed under the first one's, which
#: only ``verify`` would notice.
_CLONE = text(
    """
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:payment_ids AS uuid[]), CAST(:saga_ids AS uuid[]), CAST(:references AS text[])
        ) AS given (payment_id, saga_id, reference)
    ), cloned_payments AS (
        INSERT INTO payments
        SELECT (jsonb_populate_record(p, jsonb_build_object(
                   'payment_id', given.payment_id, 'merchant_reference', reference,
                   'psp_reference', reference))).*
          FROM payments p, given WHERE p.payment_id = :template
    ), cloned_events AS (
        INSERT INTO payment_events
        SELECT (jsonb_populate_record(e, jsonb_build_object('payment_id', given.payment_id))).*
          FROM payment_events e, given WHERE e.payment_id = :template
    ), cloned_sagas AS (
        INSERT INTO saga_instances
        SELECT (jsonb_populate_record(s, jsonb_build_object(
                   'payment_id', given.payment_id, 'saga_id', given.saga_id))).*
          FROM saga_instances s, given WHERE s.payment_id = :template
    )
    INSERT INTO saga_steps
    SELECT (jsonb_populate_record(t, jsonb_build_object('saga_id', given.saga_id))).*
      FROM saga_steps t JOIN saga_instances s USING (saga_id), given
     WHERE s.payment_id = :template
    """
)


def add_payments(container: Container, references: Sequence[str]) -> None:
    """Add payments in ``preauth``, whose PSP was asked and has not decided.

    Args:
        container: The service.
        references: One a payment, with the PSP and with us.
    """
    template = _start(container)
    with container.engine.begin() as connection:
        connection.execute(
            _CLONE,
            {
                "payment_ids": [new_id() for _ in references],
                "saga_ids": [new_id() for _ in references],
                "references": list(references),
                "template": template,
            },
        )
        connection.execute(text("ANALYZE payments, payment_events, saga_instances, saga_steps"))


def _start(container: Container) -> object:
    """Start one payment and run its saga until it waits; return its id."""
    reference = new_id().hex
    started = start_payment(
        a_start(key=reference, merchant_reference=reference),
        answer_now=None,
        unit_of_work=container.unit_of_work,
        clock=container.clock,
        new_id=new_id,
    )
    if started.payment is None:
        raise SystemExit("the payment was not started")
    beside = replace(container, outside=FakeOutside().participants())
    beside.runner.run_next(started.payment.payment_id)
    beside.close()
    return started.payment.payment_id
