"""The fraud rules that are built in: amount cap, deny list, velocity."""

from collections.abc import Collection, Mapping
from typing import Protocol

from app.clock import Clock
from app.domain.fraud import Denial, DenialKind, Refusal, Rule, denials_of, denied, over_cap
from app.domain.money import Money
from app.domain.saga import Command, Reply
from app.errors import GatewayNotAsked, GatewayRejected, StoreUnavailable
from app.gateways.velocity import Velocity
from app.redis_client import RedisAway


class DenyList(Protocol):
    """Whom a merchant account denies."""

    def find(self, merchant_account: str, denials: Collection[Denial]) -> DenialKind | None:
        """Return the kind of one of these entries that is on the list; None if none of them is.

        Raises:
            StoreUnavailable: Nobody can tell now.
        """
        ...


class FraudRules:
    """A participant that refuses what the rules name, and accepts all else.

    The first refusal is the answer, so that velocity counts what the other rules let through. Its
    rule is the only one that may be passed over: Redis may be away, and payments go on.
    """

    def __init__(
        self,
        *,
        caps: Mapping[str, int],
        deny_list: DenyList,
        velocity: Velocity | None,
        clock: Clock,
    ) -> None:
        """Set the rules.

        Args:
            caps: The most that is taken, minor units by currency; no cap for any other currency.
            deny_list: Asked each time: an entry counts from the next payment on.
            velocity: Bounds a shopper's payments; None does not.
            clock: Ends the window of ``velocity``.
        """
        self._caps = caps
        self._deny_list = deny_list
        self._velocity = velocity
        self._clock = clock

    def handle(self, command: Command) -> Reply:
        """Carry out a command; see ``Participant``."""
        data, account = command.data, command.merchant_account
        email = _email(data)
        amount = Money(int(str(data["amount_minor"])), str(data["currency"]))
        not_applied: dict[str, object] = {}
        refusal = over_cap(amount, self._caps) or self._denied(account, email)
        if refusal is None and self._velocity is not None:
            try:
                refusal = self._velocity.check(
                    account, email, str(data["payment_id"]), now=self._clock.now()
                )
            except RedisAway:
                not_applied["not_applied"] = [Rule.VELOCITY.value]
        if refusal is None:
            return Reply(success=True, data={"decision": "accept", **not_applied})
        evidence = {"decision": "refuse", "rule": refusal.rule.value, "reason": refusal.reason}
        return Reply(success=False, data=evidence)

    def _denied(self, merchant_account: str, email: str) -> Refusal | None:
        try:
            return denied(self._deny_list.find(merchant_account, denials_of(email)))
        except StoreUnavailable as error:
            raise GatewayNotAsked("the deny list can't be read now") from error


def _email(data: Mapping[str, object]) -> str:
    shopper = data.get("shopper")
    email = shopper.get("email") if isinstance(shopper, Mapping) else None
    if not isinstance(email, str):
        raise GatewayRejected("the command names no shopper")
    return email
