"""The outside services as classes that remember what they were asked. Ports are never patched."""

from collections.abc import Callable
from dataclasses import dataclass, field

from app.domain.saga import Command, Reply
from app.errors import GatewayError
from app.services.ports import Participants

Hook = Callable[[], None]


@dataclass
class FakeParty:
    """Remembers calls, and fails the next ones as a test wishes.

    Attributes:
        calls: ``(what, idempotency key)``, in order, also of calls that failed.
        effects: Keys whose effect happened: the same key never acts twice.
        failures: Raised by the next calls, first one first; the effect does not happen.
        lost_answers: Raised by the next calls after the effect happened.
        before_answer: Runs before the answer is given, for a webhook that overtakes it.
    """

    calls: list[tuple[str, str]] = field(default_factory=list)
    effects: dict[str, str] = field(default_factory=dict)
    failures: list[GatewayError] = field(default_factory=list)
    lost_answers: list[GatewayError] = field(default_factory=list)
    before_answer: Hook = lambda: None

    def act(self, what: str, key: str) -> None:
        self.calls.append((what, key))
        if self.failures:
            raise self.failures.pop(0)
        self.effects.setdefault(key, what)
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        self.before_answer()

    def asked(self, what: str) -> int:
        return sum(1 for called, _key in self.calls if called == what)


@dataclass
class FakePsp(FakeParty):
    """Answers at once; webhooks are the test's to send.

    Attributes:
        references: What it calls the payments of our references; the others are all called alike.
    """

    references: dict[str, str] = field(default_factory=dict)
    result = "Authorised"

    def handle(self, command: Command) -> Reply:
        what = command.operation
        self.act(what, command.idempotency_key)
        if what == "authorise":
            ours = str(command.data["merchant_reference"])
            reference = self.references.get(ours, "8816178914079738")
            data = {"psp_reference": reference, "result": self.result}
            return Reply(success=True, data=data)
        # Every request has a reference of its own; its repetition brings the same one back.
        requests = [known for known, effect in self.effects.items() if effect == what]
        number = requests.index(command.idempotency_key) + 1
        suffix = str(number) if number > 1 else ""
        data = {"psp_reference": f"MOD{what.upper()}{suffix}", "result": "received"}
        return Reply(success=True, data=data)


class FakeBooking(FakeParty):
    """Says yes unless told otherwise."""

    says_yes = True

    def handle(self, command: Command) -> Reply:
        self.act(command.operation, command.idempotency_key)
        if command.operation == "cancel":
            return Reply(success=True, data={"status": "cancelled"})
        return Reply(success=self.says_yes, data={"status": "answered"})


class FakeFraud(FakeParty):
    """Accepts unless told otherwise."""

    says_yes = True

    def handle(self, command: Command) -> Reply:
        self.act("check", command.idempotency_key)
        return Reply(success=self.says_yes, data={"decision": "answered"})


class FakeMail(FakeParty):
    """Takes every mail unless told otherwise."""

    says_yes = True

    def handle(self, command: Command) -> Reply:
        payment_id = str(command.data["payment_id"])
        self.act("send", payment_id)
        return Reply(success=self.says_yes, data={"message_id": f"<{payment_id}>"})


@dataclass
class FakeOutside:
    """All outside services, as fakes."""

    psp: FakePsp = field(default_factory=FakePsp)
    booking: FakeBooking = field(default_factory=FakeBooking)
    fraud: FakeFraud = field(default_factory=FakeFraud)
    fraud_rules: FakeFraud = field(default_factory=FakeFraud)
    mail: FakeMail = field(default_factory=FakeMail)

    def participants(self) -> Participants:
        return {
            "psp": self.psp,
            "booking": self.booking,
            "fraud": self.fraud,
            "fraud_rules": self.fraud_rules,
            "mail": self.mail,
        }
