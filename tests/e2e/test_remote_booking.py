"""A booking service that lives elsewhere, as processes: it works, refuses, hangs, dies (F21, F22).

Promises 3 and 4: every payment comes to rest, and the books show each booking once.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.instance import RunningInstance, eventually, running_instance

ROOT = Path(__file__).parents[2]
PARTICIPANT = "simulator.participant"

Row = dict[str, Any]


@pytest.fixture(scope="module")
def instance() -> Iterator[RunningInstance]:
    with running_instance({"COUNTERSIGN_REMOTE_SERVICES": "booking"}) as running:
        yield running


def start(instance: RunningInstance, booking: str) -> str:
    answer = instance.start_payment(f"ORDER-{booking}", booking=booking)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def booking_of(instance: RunningInstance, reference: str) -> Row | None:
    rows = [row for row in instance.books()["bookings"] if row["reference"] == reference]
    return rows[0] if rows else None


def await_state(instance: RunningInstance, payment_id: str, state: str) -> None:
    eventually(lambda: instance.payment(payment_id)["state"] == state, within_seconds=60)


def titles(instance: RunningInstance, payment_id: str) -> list[str]:
    return [item["title"] for item in instance.timeline(payment_id)]


@contextmanager
def no_other_participant(instance: RunningInstance) -> Iterator[None]:
    """The instance's own participant stands still while the block runs."""
    [process] = instance.processes(PARTICIPANT)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def a_key(instance: RunningInstance) -> str:
    made = instance.command(
        *("api-key", "create", "--merchant", instance.demo["merchant_account"]),
        *("--role", "participant", "--service", "booking"),
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@contextmanager
def a_process(*arguments: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *arguments], cwd=cwd)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("booking", "state", "says", "status"),
    [
        ("BK-1", "fin", "Booking confirmation: done", "confirmed"),
        ("FAIL-1", "compensated", "Booking confirmation: refused", "cancelled"),
        ("FLAKY-1", "fin", "Booking confirmation: done", "confirmed"),
    ],
)
def test_the_trigger_words_lead_where_they_lead_at_home(
    instance: RunningInstance, booking: str, state: str, says: str, status: str
) -> None:
    payment_id = start(instance, booking)

    await_state(instance, payment_id, state)

    row = booking_of(instance, booking)
    assert row is not None
    assert (row["status"], row["confirmations"]) == (status, int(state == "fin"))
    assert says in titles(instance, payment_id)


def test_a_booking_service_that_never_answers_is_given_up_and_its_booking_cancelled(
    instance: RunningInstance,
) -> None:
    payment_id = start(instance, "HANG-1")
    eventually(lambda: booking_of(instance, "HANG-1"))

    later = ("--as-of", "2100-01-01T00:00:00Z")
    sweep = instance.command("reconcile", "sweep", *later, "--fail-on", "none")
    await_state(instance, payment_id, "compensated")

    assert sweep.returncode == 0, sweep.stderr
    row = booking_of(instance, "HANG-1")
    assert row is not None
    assert (row["status"], row["confirmations"], row["cancellations"]) == ("cancelled", 0, 1)
    assert "Undo of booking confirmation: done" in titles(instance, payment_id)


def test_a_participant_that_dies_before_it_answers_has_booked_once(
    instance: RunningInstance,
) -> None:
    slow = (
        *("-m", PARTICIPANT, "--url", instance.demo["url"], "--api-key", a_key(instance)),
        *("--booking-url", instance.demo["simulator_url"]),
        *("--booking-token-file", str(instance.home / "simulator.key")),
        *("--lease-seconds", "3", "--answer-after", "600"),
    )
    with no_other_participant(instance), a_process(*slow) as participant:
        payment_id = start(instance, "BK-dies")
        eventually(lambda: booking_of(instance, "BK-dies"))
        participant.kill()  # SIGKILL
        before = instance.payment(payment_id)["state"]
    await_state(instance, payment_id, "fin")

    row = booking_of(instance, "BK-dies")
    assert row is not None
    assert before == "booking_confirmation"
    assert (row["status"], row["confirmations"], row["cancellations"]) == ("confirmed", 1, 0)


def test_the_instances_own_participant_is_started_again_when_it_is_killed(
    instance: RunningInstance,
) -> None:
    [first] = instance.processes(PARTICIPANT)
    first.kill()
    psutil.wait_procs([first], timeout=30)

    payment_id = start(instance, "BK-again")
    await_state(instance, payment_id, "fin")

    [second] = instance.processes(PARTICIPANT)
    assert second.pid != first.pid


def test_the_example_of_the_documentation_works_as_it_stands(
    instance: RunningInstance, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "participants.md").read_text()
    [example] = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "participant.py").write_text(example)

    with (
        no_other_participant(instance),
        a_process("participant.py", instance.demo["url"], a_key(instance), cwd=tmp_path),
    ):
        payment_id = start(instance, "BK-example")
        await_state(instance, payment_id, "fin")

    assert (tmp_path / "bookings.sqlite3").exists()
    assert booking_of(instance, "BK-example") is None  # it keeps its own


def test_every_payment_agrees_with_its_events(instance: RunningInstance) -> None:
    verified = instance.command("verify")

    assert verified.returncode == 0, verified.stdout
