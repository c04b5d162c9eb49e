"""The outside services as one plain set of books: the oracle of the model of the saga.

Written from the contract's words, one plain step an operation. The same key gets the same answer
and acts once; webhooks lie in ``outgoing`` until the test delivers them, in any order.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from app.clock import Clock
from app.domain.saga import Command, Reply
from app.errors import GatewayRejected
from app.services.ports import Participants
from tests.support.builders import an_item
from tests.support.trouble import Flow, Trouble

Item = dict[str, object]
SERVICES = ("psp", "booking", "fraud", "fraud_rules", "mail")


@dataclass(kw_only=True)
class Page:
    """What the outside has on one flow. Amounts in minor units.

    Attributes:
        troubles: How the next calls about it fail, each operation's first one first.
        is_troubled: A call failed, or may have been forgotten.
        is_unsure: Nobody may know whether the money was captured.
    """

    flow: Flow
    troubles: list[Trouble] = field(default_factory=list)
    psp_references: list[str] = field(default_factory=list)
    authorised: int = 0
    captured: int = 0
    cancelled: int = 0
    refunded: int = 0
    is_voided: bool = False
    is_expired: bool = False
    is_troubled: bool = False
    is_unsure: bool = False
    booking: str = "none"
    effects: Counter[str] = field(default_factory=Counter)
    mail_keys: set[str] = field(default_factory=set)

    @property
    def held(self) -> int:
        return self.authorised - self.captured - self.cancelled

    @property
    def kept(self) -> int:
        return self.captured - self.refunded


@dataclass
class Webhook:
    """What the PSP tells, when the test lets it; ``happens`` makes it true when first told.

    Attributes:
        item: What was told; None before the first delivery, and for ever if it no longer applies.
    """

    page: Page
    happens: Callable[[], Item | None]
    is_told: bool = False
    item: Item | None = None

    def tell(self) -> Item | None:
        if not self.is_told:
            self.is_told, self.item = True, self.happens()
        return self.item


@dataclass
class NaiveOutside:
    """Every outside service.

    Attributes:
        pages: By merchant reference.
    """

    clock: Clock
    pages: dict[str, Page] = field(default_factory=dict)
    outgoing: list[Webhook] = field(default_factory=list)
    _answers: dict[str, Reply] = field(default_factory=dict)
    _modifications: int = 0

    def participants(self) -> Participants:
        return dict.fromkeys(SERVICES, self)

    def handle(self, command: Command) -> Reply:
        page = self._page_of(command)
        trouble = next((it for it in page.troubles if it.operation == command.operation), None)
        is_new = command.idempotency_key not in self._answers
        if is_new and (trouble is None or trouble.acts):
            operation = getattr(self, f"_{command.service_id}_{command.operation}")
            self._answers[command.idempotency_key] = operation(page, command)
        if trouble is not None:
            page.troubles.remove(trouble)
            page.is_troubled = True
            was_rejected = isinstance(trouble.error, GatewayRejected)
            page.is_unsure |= was_rejected and command.operation == "capture"
            raise trouble.error
        return self._answers[command.idempotency_key]

    def expire(self, page: Page) -> None:
        """Let the hold go, unasked, as banks do."""
        page.cancelled += page.held
        page.is_voided = page.is_expired = True
        self._tell("EXPIRE", page, page.psp_references[-1])

    def _page_of(self, command: Command) -> Page:
        known = command.data.get("merchant_reference")
        if known is not None:
            return self.pages[str(known)]
        named = command.data.get("psp_reference") or command.data.get("booking_reference")
        return next(
            page
            for page in self.pages.values()
            if named in page.psp_references or named == page.flow.booking
        )

    def _fraud_check(self, page: Page, _command: Command) -> Reply:
        return Reply(success="fraud@" not in page.flow.words, data={})

    def _fraud_rules_check(self, _page: Page, _command: Command) -> Reply:
        return Reply(success=True, data={})

    def _psp_authorise(self, page: Page, _command: Command) -> Reply:
        reference = f"{page.flow.reference}-{len(page.psp_references) + 1}"
        page.psp_references.append(reference)
        refused = page.is_voided or page.flow.words & {"DECLINED", "FALSE THEN TRUE"}
        if not refused:
            self._authorise(page)
        if "LOST WEBHOOK" not in page.flow.words:
            self._tell("AUTHORISATION", page, reference, success=not refused)
        if "FALSE THEN TRUE" in page.flow.words:
            self._tell("AUTHORISATION", page, reference, happens=lambda: self._authorise(page))
        data = {"psp_reference": reference, "result": "Refused" if refused else "Authorised"}
        return Reply(success=True, data=data)

    def _authorise(self, page: Page) -> bool:
        """Hold the amount, unless the payment was cancelled by now."""
        if not page.is_voided:
            page.authorised += page.flow.amount_minor
            page.effects["authorise"] += 1
        return not page.is_voided

    def _psp_capture(self, page: Page, command: Command) -> Reply:
        amount = _amount_of(command)
        works = not page.is_voided and page.captured + amount <= page.authorised
        if works:
            page.captured += amount
            page.effects["capture"] += 1
        reference = self._modified("CAPTURE", page, amount, success=works)
        if works and "CAPTURE FAILED" in page.flow.words:

            def fail() -> bool:
                applies = page.kept >= amount
                page.captured -= amount * applies
                return applies

            self._tell("CAPTURE_FAILED", page, reference, amount=amount, happens=fail)
        return _received(reference)

    def _psp_cancel(self, page: Page, command: Command) -> Reply:
        """Release everything on hold; by our reference also before the payment was ever seen."""
        code = "CANCELLATION" if command.data.get("psp_reference") else "TECHNICAL_CANCEL"
        amount = page.flow.amount_minor if page.psp_references else 0
        return _received(self._modified(code, page, amount, success=self._cancel(page)))

    def _psp_refund(self, page: Page, command: Command) -> Reply:
        amount = _amount_of(command)
        return _received(self._modified("REFUND", page, amount, success=self._refund(page, amount)))

    def _psp_reverse(self, page: Page, _command: Command) -> Reply:
        """Refund what is captured and not yet refunded, else cancel."""
        if page.captured and "CANCEL FAILED" not in page.flow.words:
            action, amount = "refund", page.kept
            works = amount > 0 and self._refund(page, amount)
        else:
            action, amount, works = "cancel", page.flow.amount_minor, self._cancel(page)
        return _received(
            self._modified("CANCEL_OR_REFUND", page, amount, success=works, action=action)
        )

    def _cancel(self, page: Page) -> bool:
        works = not (page.captured or page.is_voided or "CANCEL FAILED" in page.flow.words)
        if works:
            page.cancelled, page.is_voided = page.authorised, True
            page.effects["cancel"] += 1
        return works

    def _refund(self, page: Page, amount: int) -> bool:
        works = amount <= page.kept
        if works:
            page.refunded += amount
            page.effects["refund"] += 1
        return works

    def _booking_confirm(self, page: Page, _command: Command) -> Reply:
        works = "FAIL-" not in page.flow.words and page.booking != "cancelled"
        if works:
            page.booking = "confirmed"
            page.effects["confirm"] += 1
        return Reply(success=works, data={})

    def _booking_cancel(self, page: Page, _command: Command) -> Reply:
        page.booking = "cancelled"
        return Reply(success=True, data={})

    def _mail_send(self, page: Page, command: Command) -> Reply:
        page.mail_keys.add(command.idempotency_key)
        return Reply(success="bounce@" not in page.flow.words, data={})

    def _modified(
        self, code: str, page: Page, amount: int, *, success: bool, action: str = ""
    ) -> str:
        """Queue the outcome of a modification, and return the modification's reference."""
        self._modifications += 1
        reference = f"MOD-{self._modifications}"
        self._tell(code, page, reference, amount=amount, success=success, action=action)
        return reference

    def _tell(
        self,
        code: str,
        page: Page,
        reference: str,
        *,
        amount: int | None = None,
        success: bool = True,
        action: str = "",
        happens: Callable[[], bool] | None = None,
    ) -> None:
        """Queue a webhook. What only ``happens`` when it is told is dated then."""
        queued_at = self.clock.now()
        payment = page.psp_references[-1] if page.psp_references else None

        def item() -> Item | None:
            if happens and not happens():
                return None
            return an_item(
                code,
                success=success,
                psp_reference=reference,
                original_reference=payment if payment != reference else None,
                merchant_reference=page.flow.reference,
                amount_minor=page.flow.amount_minor if amount is None else amount,
                event_date=(self.clock.now() if happens else queued_at).isoformat(),
                additional={"modification.action": action} if action else None,
            )

        self.outgoing.append(Webhook(page, item))


def _amount_of(command: Command) -> int:
    amount = command.data["amount_minor"]
    assert isinstance(amount, int)
    return amount


def _received(reference: str) -> Reply:
    return Reply(success=True, data={"psp_reference": reference, "result": "received"})
