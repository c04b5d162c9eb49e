"""GET /metrics tells what the database knows."""

from flask.testing import FlaskClient

from app.services.operate import Remedy
from tests.support.builders import ACCOUNT, OTHER_HMAC_KEY, a_webhook, an_item, later
from tests.support.desk import do, refused_undo
from tests.support.service import Service


def test_metrics_count_payments_and_waiting_webhooks(client: FlaskClient, service: Service) -> None:
    service.start()
    service.settle()
    service.deliver(an_item(merchant_reference="THEIRS", psp_reference="THEIRS1"))
    service.advance(42)

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    assert 'countersign_payments{state="preauth"} 1.0' in answer.text
    assert 'countersign_webhooks_waiting{state="new"} 1.0' in answer.text
    assert "countersign_oldest_webhook_overdue_seconds 42.0" in answer.text


def test_metrics_of_an_empty_service_are_zero(client: FlaskClient) -> None:
    answer = client.get("/metrics")

    assert "countersign_oldest_webhook_overdue_seconds 0.0" in answer.text
    assert "countersign_oldest_saga_overdue_seconds 0.0" in answer.text
    assert "countersign_psp_queue_blocked_seconds 0.0" in answer.text
    assert "countersign_orphans_oldest_seconds 0.0" in answer.text
    assert "countersign_reviews_open 0.0" in answer.text
    assert "countersign_reviews_oldest_seconds 0.0" in answer.text
    assert "countersign_last_webhook_age_seconds{" not in answer.text


def test_metrics_tell_what_waits_for_a_person_and_how_long_it_has(
    client: FlaskClient, service: Service
) -> None:
    payment_id = refused_undo(service)
    service.advance(90)

    waiting = client.get("/metrics").text
    do(service, payment_id, Remedy.SKIP)
    done = client.get("/metrics").text

    assert "countersign_reviews_open 1.0" in waiting
    assert "countersign_reviews_oldest_seconds 90.0" in waiting
    assert "countersign_reviews_open 0.0" in done


def test_metrics_tell_how_long_the_psp_has_been_refused(
    client: FlaskClient, service: Service
) -> None:
    for _again in range(2):
        service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))
        service.advance(120)

    answer = client.get("/metrics")

    assert "countersign_psp_queue_blocked_seconds 240.0" in answer.text
    assert 'countersign_webhooks_refused_last_hour{code="invalid_signature"} 2.0' in answer.text
    assert (
        'countersign_webhooks_refused_last_hour{code="unknown_merchant_account"} 0.0' in answer.text
    )


def test_metrics_tell_redeliveries_and_the_age_of_the_last_webhook(
    client: FlaskClient, service: Service
) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])
    service.post_webhook(
        a_webhook(an_item("CAPTURE", merchant_account="OtherECOM"), key=OTHER_HMAC_KEY)
    )
    service.advance(60)
    service.deliver(an_item(), an_item(), an_item())
    service.advance(30)

    answer = client.get("/metrics")

    assert "countersign_webhook_redeliveries_last_hour 2.0" in answer.text
    assert 'countersign_last_webhook_age_seconds{across_accounts="min"} 30.0' in answer.text
    assert 'countersign_last_webhook_age_seconds{across_accounts="max"} 90.0' in answer.text


def test_metrics_tell_how_long_the_oldest_orphan_has_waited(
    client: FlaskClient, service: Service
) -> None:
    service.deliver(an_item())
    service.execute(
        "UPDATE inbox_work SET state = 'parked', awaits_account = :account,"
        " awaits_psp_reference = 'P1'",
        account=ACCOUNT,
    )
    service.advance(75)

    assert "countersign_orphans_oldest_seconds 75.0" in client.get("/metrics").text


def test_metrics_tell_how_long_a_due_saga_has_waited_for_a_worker(
    client: FlaskClient, service: Service
) -> None:
    service.start()
    service.advance(42)
    waiting = client.get("/metrics").text
    service.execute("UPDATE saga_instances SET lease_until = :later", later=later(60))

    in_hands = client.get("/metrics").text

    assert "countersign_oldest_saga_overdue_seconds 42.0" in waiting
    assert "countersign_oldest_saga_overdue_seconds 0.0" in in_hands


def test_metrics_count_the_sagas_that_do_not_rest(client: FlaskClient, service: Service) -> None:
    service.start(merchant_reference="ORDER-1")
    service.settle()
    service.start(merchant_reference="ORDER-2")
    started = client.get("/metrics").text
    service.receive(an_item(merchant_reference="ORDER-1"))
    service.execute(
        "UPDATE saga_instances SET due = NULL, status = 'resting' FROM payments"
        " WHERE payments.payment_id = saga_instances.payment_id"
        " AND payments.merchant_reference = 'ORDER-2'"
    )

    assert 'countersign_sagas{status="running"} 1.0' in started
    assert 'countersign_sagas{status="waiting"} 1.0' in started
    assert 'countersign_sagas{status="running"} 0.0' in client.get("/metrics").text


def test_metrics_count_the_commands_that_wait_elsewhere(
    client: FlaskClient, service: Service
) -> None:
    assert "countersign_commands_offered{" not in client.get("/metrics").text
    elsewhere = service.restarted(remote_services="fraud")
    elsewhere.start()
    elsewhere.settle()
    elsewhere.container.close()
    service.advance(30)

    answer = client.get("/metrics")

    assert 'countersign_commands_offered{service_id="fraud"} 1.0' in answer.text
    assert 'countersign_commands_offered_oldest_seconds{service_id="fraud"} 30.0' in answer.text


def test_metrics_name_no_account(client: FlaskClient, service: Service) -> None:
    service.deliver(an_item())
    service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))

    assert ACCOUNT not in client.get("/metrics").text
