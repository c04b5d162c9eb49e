"""The outside services as classes that remember what they were asked. Ports are never patched."""

from collections.abc import Callable
from dataclasses import dataclass, field

from app.domain.money import Money
from app.domain.payment import Payment
from app.errors import GatewayError
from app.services.ports import Gateways, PspAnswer, Verdict

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


class FakePsp(FakeParty):
    """Answers at once; webhooks are the test's to send."""

    result = "Authorised"

    def authorise(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        self.act("authorise", idempotency_key)
        return PspAnswer(psp_reference="8816178914079738", result=self.result)

    def capture(self, payment: Payment, amount: Money, *, idempotency_key: str) -> PspAnswer:
        return self._received("capture", idempotency_key)

    def cancel(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        return self._received("cancel", idempotency_key)

    def refund(self, payment: Payment, amount: Money, *, idempotency_key: str) -> PspAnswer:
        return self._received("refund", idempotency_key)

    def reverse(self, payment: Payment, *, idempotency_key: str) -> PspAnswer:
        return self._received("reverse", idempotency_key)

    def _received(self, what: str, key: str) -> PspAnswer:
        """Every request has a reference of its own; its repetition brings the same one back."""
        self.act(what, key)
        requests = [known for known, effect in self.effects.items() if effect == what]
        number = requests.index(key) + 1
        suffix = str(number) if number > 1 else ""
        return PspAnswer(psp_reference=f"MOD{what.upper()}{suffix}", result="received")


class FakeBooking(FakeParty):
    """Says yes unless told otherwise."""

    says_yes = True

    def confirm(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        self.act("confirm", idempotency_key)
        return Verdict(is_yes=self.says_yes, evidence={"status": "answered"})

    def cancel(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        self.act("cancel", idempotency_key)
        return Verdict(is_yes=True, evidence={"status": "cancelled"})


class FakeFraud(FakeParty):
    """Accepts unless told otherwise."""

    says_yes = True

    def check(self, payment: Payment, *, idempotency_key: str) -> Verdict:
        self.act("check", idempotency_key)
        return Verdict(is_yes=self.says_yes, evidence={"decision": "answered"})


class FakeMail(FakeParty):
    """Takes every mail unless told otherwise."""

    says_yes = True

    def send_confirmation(self, payment: Payment) -> Verdict:
        self.act("send", f"{payment.payment_id}")
        return Verdict(is_yes=self.says_yes, evidence={"message_id": f"<{payment.payment_id}>"})


@dataclass
class FakeOutside:
    """All outside services, as fakes."""

    psp: FakePsp = field(default_factory=FakePsp)
    booking: FakeBooking = field(default_factory=FakeBooking)
    fraud: FakeFraud = field(default_factory=FakeFraud)
    mail: FakeMail = field(default_factory=FakeMail)

    def gateways(self) -> Gateways:
        return Gateways(psp=self.psp, booking=self.booking, fraud=self.fraud, mail=self.mail)
