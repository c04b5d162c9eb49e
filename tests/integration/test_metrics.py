"""GET /metrics tells what the database knows."""

from flask.testing import FlaskClient

from tests.support.builders import an_item
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
