"""Every trigger word of the simulator leads where the contract says (contract.md section 7)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.instance import RunningInstance, eventually, running_instance


@dataclass(frozen=True)
class Case:
    """A trigger word, and where its payment must end.

    Attributes:
        asks: Arguments of ``start_payment``.
        state: The flow state that the payment comes to and stays in.
        funds: The status of its funds.
        says: Titles that its timeline must hold.
    """

    asks: dict[str, str]
    state: str
    funds: str
    says: tuple[str, ...] = ()
    sums: dict[str, int] = field(default_factory=dict)


CASES = {
    "nothing": Case({}, "fin", "authorised", sums={"authorised": 12500}),
    "automatic-capture": Case({"capture": "automatic"}, "fin", "captured"),
    "declined": Case({"holder_name": "DECLINED"}, "declined", "refused"),
    "late-webhook": Case({"holder_name": "LATE WEBHOOK"}, "fin", "authorised"),
    "duplicate-webhook": Case(
        {"holder_name": "DUPLICATE WEBHOOK"},
        "fin",
        "authorised",
        ("Webhook AUTHORISATION true delivered again",),
    ),
    "false-then-true": Case(
        {"holder_name": "FALSE THEN TRUE"},
        "fin",
        "authorised",
        (
            "Authorisation refused: preauth → declined",
            "Authorisation succeeded: declined → booking_confirmation",
        ),
    ),
    "psp-timeout": Case({"holder_name": "PSP TIMEOUT"}, "fin", "authorised"),
    "psp-down": Case(
        {"holder_name": "PSP DOWN"},
        "fin",
        "authorised",
        ("Preauth: gateway unavailable", "Preauth (attempt 2): waiting"),
    ),
    "early-webhook": Case({"holder_name": "EARLY WEBHOOK"}, "fin", "authorised"),
    "capture-failed": Case(
        {"holder_name": "CAPTURE FAILED", "capture": "automatic"},
        "fin",
        "authorised",
        ("The PSP says: captured 12500", "The PSP says: capture failed 12500"),
        {"captured": 0},
    ),
    "cancel-failed": Case(
        {"holder_name": "CANCEL FAILED", "booking": "FAIL-1"}, "manual_review", "authorised"
    ),
    "booking-fail": Case(
        {"booking": "FAIL-1"}, "compensated", "cancelled", sums={"cancelled": 12500}
    ),
    "booking-flaky": Case(
        {"booking": "FLAKY-1"},
        "fin",
        "authorised",
        ("Booking confirmation: done",),
    ),
    "booking-hang": Case(
        {"booking": "HANG-1"},
        "compensated",
        "cancelled",
        ("Booking confirmation: gateway timeout", "Undo of booking confirmation: done"),
    ),
    "fraud": Case({"email": "fraud@example.com"}, "declined", "none"),
    "bounce": Case(
        {"email": "bounce@example.com"}, "fin", "authorised", ("Mail failed: email → fin",)
    ),
}


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance() as running:
        yield running


@pytest.fixture(scope="module")
def payments(instance: RunningInstance) -> dict[str, str]:
    """Every case's payment, started at once; the id by the case's name."""

    def start(case: tuple[str, Case]) -> tuple[str, str]:
        name, wanted = case
        answer = instance.start_payment(f"ORDER-{name}", **wanted.asks)  # type: ignore[arg-type]
        assert answer.status_code == 202, answer.text
        return name, answer.json()["id"]

    with ThreadPoolExecutor(8) as pool:
        return dict(pool.map(start, CASES.items()))


@pytest.mark.parametrize("name", CASES)
def test_the_trigger_word_leads_where_the_contract_says(
    name: str, instance: RunningInstance, payments: dict[str, str]
) -> None:
    wanted = CASES[name]

    def at_its_end() -> dict[str, Any] | None:
        found = instance.payment(payments[name])
        titles = {item["title"] for item in instance.timeline(payments[name])}
        has_ended = found["state"] == wanted.state and found["funds"]["status"] == wanted.funds
        return found if has_ended and titles >= set(wanted.says) else None

    payment = eventually(at_its_end, within_seconds=60)

    assert {name: payment["funds"][name] for name in wanted.sums} == wanted.sums


def test_a_lost_webhook_is_found_by_the_sweep_and_the_hold_is_released(
    instance: RunningInstance,
) -> None:
    started = instance.start_payment("ORDER-lost", holder_name="LOST WEBHOOK", wait=1)
    payment_id = started.json()["id"]
    eventually(lambda: instance.payment(payment_id)["funds"]["status"] == "pending")
    assert (started.status_code, started.json()["state"]) == (202, "preauth")

    # The failed capture of another case is an open break, and none of this payment's.
    sweep = instance.command(
        "reconcile", "sweep", "--as-of", "2100-01-01T00:00:00Z", "--fail-on", "none", "--json"
    )

    assert sweep.returncode == 0, sweep.stderr
    payment = eventually(
        lambda: found if (found := instance.payment(payment_id))["state"] == "compensated" else None
    )
    assert payment["funds"]["status"] == "cancelled"
    assert payment["funds"]["cancelled"] == 12500


@pytest.mark.usefixtures("payments")
def test_no_effect_happened_twice_at_the_simulator(instance: RunningInstance) -> None:
    for name in ("nothing", "duplicate-webhook", "psp-timeout", "psp-down", "early-webhook"):
        [book] = instance.books(f"ORDER-{name}")["payments"]

        assert book["authorisations"] == 1, name
    mails = [mail["message_id"] for mail in instance.books()["mails"]]

    assert len(mails) == len(set(mails))


@pytest.mark.usefixtures("payments")
def test_every_payment_agrees_with_its_events(instance: RunningInstance) -> None:
    verified = instance.command("verify")

    assert verified.returncode == 0, verified.stdout
