"""A participant that lives elsewhere, as tests speak to the service in its name."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from werkzeug.test import TestResponse

from app.domain.access import Role
from tests.support.builders import ACCOUNT
from tests.support.service import Service

Item = dict[str, Any]


@dataclass(frozen=True)
class Participant:
    """Takes commands by HTTP and answers them. Threads may share it."""

    service: Service
    api_key: str

    @classmethod
    def of(cls, service: Service, service_id: str, account: str = ACCOUNT) -> "Participant":
        """Make one, with a key of its own."""
        accounts = service.container.accounts
        key = accounts.create_api_key(account, Role.PARTICIPANT, service_id=service_id)
        return cls(service, key)

    def post(self, path: str, body: object) -> TestResponse:
        """Post JSON in its name."""
        client = self.service.client.application.test_client()
        return client.post(path, json=body, headers={"Authorization": f"Bearer {self.api_key}"})

    def take(self, **body: int) -> list[Item]:
        """Take what is offered."""
        answer = self.post("/commands/claims", body)
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        return list(answer.json["items"])

    def take_one(self, **body: int) -> Item:
        """Take the one command that is offered."""
        [item] = self.take(**body)
        return item

    def respond(self, item: Item, *, success: bool, data: object) -> TestResponse:
        """Answer a command, whatever comes of it."""
        path = f"/commands/{item['message_id']}/response"
        return self.post(path, {"success": success, "data": data})

    def answer(self, item: Item, *, success: bool = True, **data: object) -> Item:
        """Answer a command, and return what is said to that."""
        answer = self.respond(item, success=success, data=data)
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        return dict(answer.json)


def unknown(item: Item) -> Item:
    """A command that there is not."""
    return {**item, "message_id": str(uuid5(UUID(item["message_id"]), "another"))}
