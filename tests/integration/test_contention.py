"""Somebody else holds a lock: that one webhook steps back, and its neighbours go on (F19, F41)."""

from sqlalchemy import text

from tests.support.builders import an_item
from tests.support.service import Service


def test_a_payment_that_is_locked_does_not_stop_another_payments_webhook(
    service: Service,
) -> None:
    locked = service.start(merchant_reference="ORDER-LOCKED")
    other = service.start(merchant_reference="ORDER-OTHER")
    service.settle()
    service.deliver(
        an_item(psp_reference="LOCKED1", merchant_reference="ORDER-LOCKED"),
        an_item(psp_reference="OTHER1", merchant_reference="ORDER-OTHER"),
    )

    with service.container.engine.connect() as holder:
        holder.execute(
            text("SELECT 1 FROM payments WHERE payment_id = :id FOR UPDATE"), {"id": locked}
        )
        service.drain()
        service.settle()

        assert service.payment(other).state == "fin"
        [work] = service.work()
        assert (work["state"], work["attempts"]) == ("new", 0)

    service.later(2)
    assert service.payment(locked).state == "fin"
    assert service.work() == []
