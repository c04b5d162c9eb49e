"""A payment through the whole service, on real stores, with the outside as fakes."""

from flask.testing import FlaskClient

from app.bootstrap import Container
from tests.support.builders import a_start_body, a_webhook
from tests.support.fakes import FakeOutside


def test_a_payment_reaches_fin_when_every_party_says_yes(
    client: FlaskClient, container: Container, api_key: str, outside: FakeOutside
) -> None:
    started = client.post(
        "/payments",
        json=a_start_body(),
        headers={"Authorization": f"Bearer {api_key}", "Idempotency-Key": "key-1"},
    )
    assert started.status_code == 202
    assert started.json is not None
    while container.runner.run_next():
        pass
    assert client.post("/webhooks/adyen", data=a_webhook()).status_code == 200
    while container.drain.run_next() or container.runner.run_next():
        pass

    payment = client.get(
        f"/payments/{started.json['id']}", headers={"Authorization": f"Bearer {api_key}"}
    )

    assert payment.json is not None
    assert payment.json["state"] == "fin"
    assert outside.mail.asked("send") == 1
