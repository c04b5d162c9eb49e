"""What must not stop a saga, or do something twice: outages, deaths, threads that end, releases.

Promises 1, 4 and 5 (F22, F24, F29, F34, F38, F39, F56).
"""

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import pytest

from app import failpoints
from app.domain.access import Role
from app.domain.flow import FlowState
from app.domain.payment import CaptureMode
from app.errors import GatewayError, GatewayNotAsked, GatewayUnavailable, StoreUnavailable
from app.sagas.orchestrator import FAILED_WAIT, Orchestrator
from app.sagas.ports import Batch
from app.services.operate import Remedy
from app.worker import Worker
from tests.support.builders import PSP_REFERENCE, an_item
from tests.support.desk import cancellation, do, refused_undo
from tests.support.participants import Participant
from tests.support.runners import PATIENCE_SECONDS, call, orchestrator
from tests.support.service import Crash, Row, Service, crash

HOUR = 3600


@dataclass
class Flaky:
    """Opens transactions, but one: the store is away then.

    Attributes:
        fails_at: Which one, counted from 1.
    """

    service: Service
    fails_at: int
    opened: int = 0

    def __call__(self) -> Batch:
        self.opened += 1
        if self.opened == self.fails_at:
            raise StoreUnavailable
        return self.service.container.batch()


def with_batches_of(service: Service, batch: Flaky) -> Orchestrator:
    worker = orchestrator(service)
    worker._batch = batch  # noqa: SLF001  # between two transactions of one call there is no seam
    return worker


@pytest.mark.parametrize("fails_at", [3, 4, 5])
def test_store_that_goes_away_while_each_saga_is_tried_alone_loses_no_turn(
    service: Service, fails_at: int
) -> None:
    """F39: what was written stays written, once, and its calls are made; the rest is kept."""
    ids = [service.start(merchant_reference=f"ORDER-{number}") for number in range(3)]
    batch = Flaky(service, fails_at)
    worker = with_batches_of(service, batch)
    turns = worker.advance(claims_max=3).turns
    called = [call(service, turn) for turn in turns]
    poisoned = called[1].turn.claim
    service.execute(
        "UPDATE saga_steps SET status = 'unheard_of' WHERE saga_id = :id AND step = 'fraud_check'",
        id=poisoned.saga_id,
    )

    advance = worker.advance(called)
    interrupted = advance.unsettled
    while advance.turns or advance.unsettled:
        after = [call(service, turn) for turn in advance.turns]
        advance = worker.advance(advance.unsettled + after)

    others = [one for one in ids if one != poisoned.payment_id]
    assert 1 <= len(interrupted) <= len(called)
    assert {service.payment(one).state.value for one in others} == {"preauth"}
    for one in others:
        steps = [data["step"] for data in service.events(one, "step_answered")]
        assert sorted(steps) == ["fraud_check", "fraud_rules", "preauth"]
    answered = service.rows("SELECT count(*) AS n FROM responses GROUP BY command_id")
    assert {row["n"] for row in answered} == {1}
    assert service.outside.psp.asked("authorise") == len(others)
    service.execute("UPDATE saga_steps SET status = 'asked' WHERE status = 'unheard_of'")
    service.later(FAILED_WAIT.total_seconds())
    assert service.payment(poisoned.payment_id).state == "preauth"
    assert service.discrepancies() == []


def capture_step(service: Service) -> Row:
    [step] = service.rows(
        "SELECT status, attempts, asked_at, due FROM saga_steps"
        " WHERE step = 'capture' AND direction = 'act'"
    )
    return step


def test_outage_is_one_line_on_the_timeline_and_is_tried_less_and_less_often(
    service: Service,
) -> None:
    """F56: what was put off; any other failure is told again."""
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.deliver(an_item())
    service.drain()
    worker = orchestrator(service)  # every wait is half of its bound
    left_alone: list[GatewayError] = [GatewayNotAsked("left alone")]
    service.outside.psp.failures = [*left_alone * 50, GatewayUnavailable("503"), *left_alone * 2]
    waits: list[float] = []
    while service.outside.psp.failures:
        advance = worker.advance(claims_max=1)
        while advance.turns:
            advance = worker.advance([call(service, turn) for turn in advance.turns])
        step = capture_step(service)
        service.clock.at = step["due"]
        waits.append((step["due"] - step["asked_at"]).total_seconds())

    put_off = waits[:50]
    assert put_off == sorted(put_off)
    assert (put_off[0], put_off[-1]) == (2.5, 150)
    failed = [data["error"] for data in service.events(payment_id, "step_failed")]
    assert failed == [GatewayNotAsked.code, GatewayUnavailable.code, GatewayNotAsked.code]
    assert capture_step(service)["attempts"] == 2


@pytest.fixture
def signals() -> Iterator[None]:
    """What a worker listens to is given back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class EndsAtOnce:
    """Runs sagas, but that a mistake ends its thread."""

    def wake(self) -> None:
        """Nobody sleeps here."""

    def run_until(self, _stopping: threading.Event, *, stop_seconds: float) -> None:
        """End by what no handler sees."""
        raise SystemExit(stop_seconds)


@pytest.mark.usefixtures("signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_worker_whose_saga_thread_has_ended_ends_itself(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """F38: a process that lives on and runs nothing is replaced by nobody."""
    container = replace(service.container)
    vars(container)["runner"] = EndsAtOnce()
    worker = Worker(container)

    with pytest.raises(SystemExit) as ended:
        worker.run()
    worker.stop()
    for thread in threading.enumerate():
        if thread.name == "drain":
            thread.join(PATIENCE_SECONDS)

    assert ended.value.code == 1
    assert "a thread of this worker has ended" in caplog.text
    container.close()


def test_saga_that_a_sweep_claimed_before_its_time_is_due_when_the_dead_sweeps_lease_is_over(
    service: Service,
) -> None:
    """F24: and not only when its own time has come."""
    payment_id = service.start(capture=CaptureMode.AUTOMATIC)
    service.settle()
    service.receive(an_item())
    as_of = service.clock.at + timedelta(hours=2)
    sweep = service.sweep()
    findings = sweep.plan(as_of=as_of)
    failpoints.arm("saga.before_effect", crash)
    with pytest.raises(Crash):
        sweep.carry_out(findings, as_of=as_of)
    failpoints.disarm_all()

    service.later(service.lease_seconds - 1)
    before = service.outside.psp.asked("capture")
    service.later(1)

    assert (before, service.outside.psp.asked("capture")) == (1, 2)
    assert len({key for what, key in service.outside.psp.calls if what == "capture"}) == 1
    assert service.payment(payment_id).state == "capture"


def act(service: Service, payment_id: UUID, action: str) -> tuple[int, str]:
    answer = service.client.post(
        f"/payments/{payment_id}/actions",
        json={"action": action, "reason": "the PSP was asked by phone"},
        headers={"Authorization": f"Bearer {service.api_key(Role.OPERATOR)}"},
    )
    assert answer.json is not None
    return answer.status_code, answer.json.get("code", "")


@pytest.mark.parametrize("action", ["resume", "skip"])
def test_operator_is_told_when_a_payment_belongs_to_a_release_that_is_not_this_one(
    service: Service, action: str
) -> None:
    """F29, F34: nothing of it is kept, and the release that knows it does it."""
    payment_id = refused_undo(service)
    before = service.payment(payment_id)
    service.execute("UPDATE saga_instances SET definition_version = 99")

    answered = act(service, payment_id, action)

    assert answered == (409, "definition_unknown")
    assert service.payment(payment_id) == before
    assert service.count("operator_actions") == 0
    service.execute("UPDATE saga_instances SET definition_version = 2")
    assert act(service, payment_id, action)[0] == 200


@pytest.fixture
def elsewhere(service: Service) -> Iterator[Service]:
    """The service, with a booking service that lives elsewhere."""
    other = service.restarted(remote_services="booking")
    yield other
    other.container.close()


def test_nothing_is_offered_elsewhere_for_a_payment_that_was_forced_to_rest(
    elsewhere: Service,
) -> None:
    """F29: nobody waits for it any more, and what a person left standing is to stand."""
    them = Participant.of(elsewhere, "booking")
    payment_id = elsewhere.start(capture=CaptureMode.AUTOMATIC)
    elsewhere.settle()
    elsewhere.receive(an_item())
    them.answer(them.take_one(), confirmation_id="C-1")
    elsewhere.settle()
    elsewhere.receive(
        an_item(
            "CAPTURE", success=False, psp_reference="MODCAPTURE", original_reference=PSP_REFERENCE
        )
    )
    for seconds in (61, 61, 61, 301, 3601):
        elsewhere.later(seconds)
    offered = "SELECT operation FROM commands WHERE offered_until IS NOT NULL"
    before = elsewhere.rows(offered)

    elsewhere.receive(cancellation(success=False))
    on_the_desk = elsewhere.payment(payment_id).state, them.take()
    do(elsewhere, payment_id, Remedy.RESUME)
    elsewhere.settle()
    resumed = elsewhere.rows(offered)
    elsewhere.receive(cancellation(success=False, reference="MODCANCEL2"))
    for seconds in (61, 61, 61, 301, 3601):
        elsewhere.later(seconds)
    do(elsewhere, payment_id, Remedy.FORCE, FlowState.FIN)

    assert before == resumed == [{"operation": "cancel"}]
    assert on_the_desk == ("manual_review", [])
    assert elsewhere.rows(offered) == []
    assert them.take() == []
    assert elsewhere.payment(payment_id).state == "fin"
