"""The saga against a plain set of books: whatever happens, in whatever order, ends well.

Hypothesis makes up flows with words of trouble, failing calls, webhooks that come late, twice and
in any order, workers that die between any two of their steps or outlive their leases, crashes
inside of transactions, sweeps. The engine and Postgres are real; the outside is
``tests.support.naive``. After every step no saga is without a future (F36), and nothing has
happened twice (F10, F21 to F26). In the end every payment rests, where its words and its troubles
allow, and the money is where the books say (F8, F12, F14, F15, F27, F28, F30, F31).

    .venv/bin/python -m tests.integration.test_saga_model 100
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app import failpoints
from app.bootstrap import new_id
from app.domain.flow import REST_STATES
from app.domain.money import Money
from app.domain.payment import CaptureMode
from app.domain.saga import Reply
from app.errors import GatewayError
from app.sagas.moving import Call, Called, Turn
from app.sagas.orchestrator import Orchestrator
from app.services.start_payment import StartPayment
from tests.support import stores
from tests.support.builders import ACCOUNT, NOW
from tests.support.clock import FixedClock
from tests.support.counting import rest_problems_of
from tests.support.naive import NaiveOutside, Page
from tests.support.service import Crash, crash
from tests.support.trouble import Flow, Wish, wishes
from tests.support.wired import a_service

#: Hypothesis likes what it has drawn before: many small parts see more than a large one.
PARTS = 8
EXAMPLES = 4
STEPS = 50
FLOWS_AT_FIRST = 6
FLOWS_MAX = 8
WORKERS = ("worker 1", "worker 2")

#: Longer than any flow needs to rest that nothing troubles any more. An undo that has failed often
#: is asked again once a day.
ROUNDS_SECONDS = (10, 30, 60, 1000, 1000, 3600, *(86_400,) * 12)
#: What is told by then is told within the decision window.
IN_TIME = timedelta(seconds=800)

FAILPOINTS = (
    "inbox.before_commit",
    "inbox.after_commit",
    "drain.before_commit",
    "drain.after_commit",
    "saga.before_effect",
    "saga.after_effect",
    "saga.after_commit",
)
WISHES = wishes(500, seed=1)

workers = st.sampled_from(WORKERS)
numbers = st.integers(1, 4)
places = st.integers(0, 99)


class SagaModel(RuleBasedStateMachine):
    """One database, two workers, and an outside that keeps plain books."""

    def __init__(self, postgres_url: str, redis_url: str, part: int) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.clock = FixedClock(NOW)
        self.outside = NaiveOutside(self.clock)
        self.service = self._stack.enter_context(
            a_service(postgres_url, redis_url, self.outside.participants(), self.clock)
        )
        self.workers = {name: self._orchestrator(name) for name in WORKERS}
        self.turns: list[tuple[str, Turn]] = []
        self.called: list[tuple[str, Called]] = []
        self.ids: dict[UUID, Flow] = {}
        self.ended_at = NOW
        self._part = part

    def _orchestrator(self, owner: str) -> Orchestrator:
        container = self.service.container
        return Orchestrator(
            container.definitions,
            services=self.outside.participants(),
            batch=container.batch,
            clock=self.clock,
            new_id=new_id,
            owner=owner,
            lease_seconds=container.settings.lease_seconds,
        )

    @initialize(drawn=st.integers(0, 2**32))
    def start_several(self, drawn: int) -> None:
        """Start unlike flows: hypothesis by itself would draw much of the same."""
        for wish in Random(f"{self._part} {drawn}").sample(WISHES, FLOWS_AT_FIRST):
            self.start(wish)

    @precondition(lambda self: len(self.ids) < FLOWS_MAX)
    @rule(wish=st.sampled_from(WISHES))
    def start(self, wish: Wish) -> None:
        reference = f"FLOW-{len(self.ids) + 1}"
        flow = Flow(
            reference=reference,
            words=wish.words,
            amount_minor=12500,
            is_automatic=wish.is_automatic,
        )
        self.outside.pages[reference] = Page(flow=flow, troubles=list(wish.troubles))
        self.ids[self.service.start(_command(flow))] = flow

    @rule(worker=workers, number=numbers)
    def claim(self, worker: str, number: int) -> None:
        advance = self.workers[worker].advance(claims_max=number)
        self.turns += [(worker, turn) for turn in advance.turns]

    @precondition(lambda self: self.turns)
    @rule(place=places, number=numbers)
    def call(self, place: int, number: int) -> None:
        for _turn in range(min(number, len(self.turns))):
            worker, turn = self.turns.pop(place % len(self.turns))
            replies = tuple(map(self._call, turn.calls))
            self.called.append((worker, Called(turn=turn, replies=replies)))

    @precondition(lambda self: self.called)
    @rule(worker=workers, number=st.integers(0, 2))
    def settle_what_was_called(self, worker: str, number: int) -> None:
        called = [one for owner, one in self.called if owner == worker]
        self.called = [(owner, one) for owner, one in self.called if owner != worker]
        advance = self.workers[worker].advance(called, claims_max=number)
        self.turns += [(worker, turn) for turn in advance.turns]
        self.called += [(worker, one) for one in advance.unsettled]

    @precondition(lambda self: self.turns or self.called)
    @rule(worker=workers)
    def die(self, worker: str) -> None:
        """Kill a worker: what it was about to call, or to write down, is forgotten."""
        self._mark_what_is_open()
        self.turns = [(owner, one) for owner, one in self.turns if owner != worker]
        self.called = [(owner, one) for owner, one in self.called if owner != worker]

    @rule(number=numbers)
    def run(self, number: int) -> None:
        for _saga in range(number):
            self._survive(self.service.container.runner.run_next)

    @rule()
    def drain(self) -> None:
        self._survive(self.service.container.drain.run_next)

    @rule()
    def settle(self) -> None:
        self._survive(self.service.settle)

    @rule(seconds=st.sampled_from((1, 5, 26, 70, 400, 1000)))
    def advance(self, seconds: int) -> None:
        if seconds >= self.service.lease_seconds:
            self._mark_what_is_open()
        self.service.advance(seconds)

    @precondition(lambda self: self.outside.outgoing)
    @rule(place=places, times=st.integers(1, 2))
    def deliver(self, place: int, times: int) -> None:
        """Deliver any webhook, told before or not; the PSP repeats what was not acknowledged."""
        item = self.outside.outgoing[place % len(self.outside.outgoing)].tell()
        for _delivery in range(times if item else 0):
            self._survive(lambda: self.service.deliver(item or {}), again=True)

    @precondition(lambda self: any(page.held for page in self.outside.pages.values()))
    @rule(place=places)
    def expire(self, place: int) -> None:
        held = [page for page in self.outside.pages.values() if page.held]
        self.outside.expire(held[place % len(held)])

    @rule(name=st.sampled_from(FAILPOINTS))
    def crash(self, name: str) -> None:
        failpoints.arm(name, crash)

    @rule(seconds=st.sampled_from((0, 60, 1000)))
    def sweep(self, seconds: int) -> None:
        self._mark_in_flight()
        self._survive(lambda: self.service.sweep_once(in_seconds=seconds))

    @invariant()
    def no_saga_is_without_a_future(self) -> None:
        assert self.service.sagas_without_a_future() == []

    @invariant()
    def nothing_happens_twice(self) -> None:
        for page in self.outside.pages.values():
            assert all(times == 1 for times in page.effects.values()), page
            assert len(page.mail_keys) <= 1, page

    def teardown(self) -> None:
        try:
            self.ended_at = self.clock.at
            self._come_to_rest()
            for payment_id, flow in self.ids.items():
                payment, page = self.service.payment(payment_id), self.outside.pages[flow.reference]
                is_in_time = self.ended_at < payment.created_at + IN_TIME
                problems = list(rest_problems_of(payment, page, is_in_time=is_in_time))
                assert not problems, problems
            assert self.service.work() == []
            assert self.service.discrepancies() == []
        finally:
            failpoints.disarm_all()
            self._stack.close()

    def _call(self, call: Call) -> Reply | GatewayError:
        try:
            return self.outside.handle(call.command)
        except GatewayError as error:
            return error

    def _survive(self, act: Callable[[], object], *, again: bool = False) -> None:
        """Do something; if the process dies of it, start it anew, and try again if others would."""
        try:
            act()
        except Crash:
            failpoints.disarm_all()
            self._mark_in_flight()
            self.service = self.service.restarted()
            self._stack.callback(self.service.container.close)
            if again:
                act()

    def _mark_what_is_open(self) -> None:
        """Whose calls a worker has begun and may not end; the tries are counted all the same."""
        turns = [turn for _owner, turn in self.turns]
        turns += [called.turn for _owner, called in self.called]
        self._mark(self.ids[turn.claim.payment_id] for turn in turns)

    def _mark_in_flight(self) -> None:
        self._mark(self._in_flight())

    def _in_flight(self) -> list[Flow]:
        return [
            flow
            for payment_id, flow in self.ids.items()
            if self.service.payment(payment_id).state not in REST_STATES
        ]

    def _mark(self, flows: Iterable[Flow]) -> None:
        for flow in flows:
            self.outside.pages[flow.reference].is_troubled = True

    def _come_to_rest(self) -> None:
        """Let everybody be well, tell everything, and wait as long as it takes."""
        failpoints.disarm_all()
        for seconds in ROUNDS_SECONDS:
            self.service.later(seconds)
            if not self._tell_what_is_new() and not self._in_flight():
                return
            self.service.settle()
        pages = [self.outside.pages[flow.reference] for flow in self._in_flight()]
        raise AssertionError(f"these do not come to rest: {pages}")

    def _tell_what_is_new(self) -> bool:
        """Deliver every webhook that was not told yet, and tell whether there was one."""
        new = [webhook for webhook in self.outside.outgoing if not webhook.is_told]
        for webhook in new:
            item = webhook.tell()
            if item:
                self.service.deliver(item)
        return bool(new)


def _command(flow: Flow) -> StartPayment:
    return StartPayment(
        merchant_account=ACCOUNT,
        idempotency_key=flow.reference,
        fingerprint=b"",
        merchant_reference=flow.reference,
        amount=Money(flow.amount_minor, "EUR"),
        capture=CaptureMode.AUTOMATIC if flow.is_automatic else CaptureMode.MANUAL,
        details={
            "payment_method": {"type": "scheme", "holder_name": "S Hopper"},
            "shopper": {"email": flow.email},
            "booking": {"reference": flow.booking},
        },
        wait_seconds=0,
    )


def run_model(postgres_url: str, redis_url: str, *, part: int) -> None:
    """Run some generated histories, the same for the same ``part``."""

    @seed(part)
    class SeededModel(SagaModel):
        def __init__(self) -> None:
            super().__init__(postgres_url, redis_url, part)

    run_state_machine_as_test(
        SeededModel,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_ends_well_and_as_the_books_say(
    part: int, postgres_server: str, redis_url: str
) -> None:
    run_model(postgres_server, redis_url, part=part)


def main() -> None:
    """Run more parts by hand: so many, from the first that the suite does not run."""
    parts = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with stores.postgres() as postgres_url, stores.redis() as redis_url:
        stores.make_template(postgres_url)
        for part in range(PARTS, PARTS + parts):
            run_model(postgres_url, redis_url, part=part)
            print(f"part {part}: all well", flush=True)


if __name__ == "__main__":
    main()
