"""Thousands of payments at once on a real instance, while its processes are killed; then a count.

    .venv/bin/python -m tests.support.flows --payments 5000

prints what was started, killed and repeated, and where the payments came to rest; with ``--json``
as JSON. The exit code is 1 if anything was lost, doubled, or rests where it must not.
"""

import argparse
import http.client
import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from random import Random
from time import monotonic, sleep
from typing import Any, LiteralString

import httpx2
import psycopg

from app.domain.flow import REST_STATES
from app.settings import ENV_FILE, read_env_file
from tests.support.counting import outside_of, problems_of
from tests.support.havoc import Havoc, ask_simulator
from tests.support.instance import RunningInstance, eventually, running_instance
from tests.support.trouble import WORDS, Flow, draw

STARTERS = 8
#: One start in so many is sent once more, as by a client that missed the answer.
STARTS_PER_REPETITION = 10
#: Far beyond what a run takes: only a payment that never rests meets it.
REST_SECONDS_MAX = 3600.0
LOOK_SECONDS = 0.5
PAGE_ITEMS = 200

ENVIRONMENT = {
    "COUNTERSIGN_LEASE_SECONDS": "7",
    "COUNTERSIGN_PSP_TIMEOUT_SECONDS": "3",
    "COUNTERSIGN_BOOKING_TIMEOUT_SECONDS": "2",
    "COUNTERSIGN_FRAUD_TIMEOUT_SECONDS": "3",
    "COUNTERSIGN_SMTP_TIMEOUT_SECONDS": "3",
    # Only the sweep gives a payment up; the backlog of a slow machine does not.
    "COUNTERSIGN_DECISION_WINDOW_SECONDS": "7200",
    "SIMULATOR_LATE_WEBHOOK_SECONDS": "20",
    # The PSP tries again after 0.2 s, 0.5 s, 1 s ...
    "SIMULATOR_SPEEDUP": "600",
}

_IN_FLIGHT: LiteralString = (
    "SELECT merchant_reference, state, psp_reference FROM payments WHERE state <> ALL (%(rest)s)"
)
_WITHOUT_FUTURE: LiteralString = (
    "SELECT p.merchant_reference FROM saga_instances s JOIN payments p USING (payment_id)"
    " WHERE (s.due IS NULL) <> (p.state = ANY (%(rest)s))"
)
_WITHOUT_SAGA: LiteralString = (
    "SELECT p.merchant_reference FROM payments p"
    " WHERE NOT EXISTS (SELECT FROM saga_instances s WHERE s.payment_id = p.payment_id)"
)
_APPLIED: LiteralString = (
    "SELECT count(*), count(DISTINCT cause) FROM payment_events"
    " WHERE cause LIKE 'webhook:%%' AND kind IN ('fact_recorded', 'noted')"
)
_UNDELIVERED = "SELECT id FROM webhooks WHERE state IN ('scheduled', 'waiting', 'failing')"


@dataclass(kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        problems: What was lost or doubled, or rests where it must not; empty if all is well.
        ends: How many payments with each word rest where.
        in_flight_max: The most payments that were seen not to rest.
        seconds: From the first start to the last rest.
    """

    payments: int
    problems: list[str] = field(default_factory=list)
    ends: dict[str, Counter[str]] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    echoes: Counter[int | None] = field(default_factory=Counter)
    in_flight_max: int = 0
    start_seconds: float = 0.0
    seconds: float = 0.0
    payments_per_second: float = 0.0
    webhooks: int = 0
    deliveries: int = 0
    mails: int = 0
    repeated_mails: int = 0


class Run:
    """One instance, its flows, and the report on them."""

    def __init__(self, instance: RunningInstance, flows: Sequence[Flow]) -> None:
        self._instance = instance
        self._flows = flows
        self._database_url = read_env_file(instance.home / ENV_FILE)["DATABASE_URL"]
        self._ids: dict[str, str] = {}
        self.report = Report(payments=len(flows))

    def start(self) -> None:
        """Start every flow, each until it is acknowledged."""
        began_at = monotonic()
        with ThreadPoolExecutor(STARTERS) as pool:
            list(pool.map(self._start_share, (self._flows[n::STARTERS] for n in range(STARTERS))))
        self.report.start_seconds = round(monotonic() - began_at, 1)

    def await_rest(self) -> None:
        """Wait until every payment rests and every webhook of the PSP is applied.

        When only those are left whose authorisation nobody will ever tell of, a sweep gives them
        up, as if their decision window was over.
        """
        ends_at = monotonic() + REST_SECONDS_MAX
        is_swept = False
        while (in_flight := self._ask(_IN_FLIGHT)) or self._has_open_webhooks():
            assert monotonic() < ends_at, f"these do not come to rest: {in_flight[:20]}"
            self.report.in_flight_max = max(self.report.in_flight_max, len(in_flight))
            self._note("without a future", self._ask(_WITHOUT_FUTURE))
            if in_flight and not is_swept and self._is_left_to_the_sweep(in_flight):
                is_swept = True
                swept = self._instance.command(
                    *("reconcile", "sweep", "--as-of", "2100-01-01T00:00:00Z"),
                    *("--fail-on", "none", "--progress", "never"),
                )
                assert swept.returncode == 0, swept.stderr
            sleep(LOOK_SECONDS)

    def count(self, havoc: Havoc) -> None:
        """Hold every payment against the simulator's books, and count."""
        report = self.report
        eventually(lambda: not self._has_open_webhooks())
        payments = eventually(self._list_payments)
        books = self._books()
        self._count_payments(payments, outside_of(self._flows, books))
        self._note("without a future", self._ask(_WITHOUT_FUTURE))
        self._note("without a saga", self._ask(_WITHOUT_SAGA))
        self._count_webhooks(books["webhooks"])
        message_ids = [mail["message_id"] for mail in books["mails"]]
        report.mails = len(set(message_ids))
        report.repeated_mails = len(message_ids) - report.mails
        report.kills, report.echoes = havoc.kills, havoc.echoes
        self._note("answered to a repeated webhook", set(havoc.echoes) - {200, 503, None})
        verified = self._instance.command("verify")
        if verified.returncode:
            report.problems.append(verified.stdout + verified.stderr)

    def _start_share(self, flows: Sequence[Flow]) -> None:
        port = self._instance.port
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            for place, flow in enumerate(flows):
                self._ids[flow.reference] = self._start(connection, flow)
                if place % STARTS_PER_REPETITION == 0:
                    again = self._start(connection, flow)
                    assert again == self._ids[flow.reference], "started twice"

    def _start(self, connection: http.client.HTTPConnection, flow: Flow) -> str:
        headers = {
            "Authorization": f"Bearer {self._instance.demo['api_key']}",
            "Content-Type": "application/json",
            "Idempotency-Key": flow.reference,
        }
        while True:
            try:
                connection.request("POST", "/payments", json.dumps(flow.body), headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
            else:
                if response.status == http.HTTPStatus.ACCEPTED:
                    return str(json.loads(answer)["id"])
                assert response.status in {409, 429, 503}, (response.status, answer)
            sleep(0.05)

    def _is_left_to_the_sweep(self, in_flight: Sequence[tuple[Any, ...]]) -> bool:
        never_told = {flow.reference for flow in self._flows if flow.is_never_told}
        return all(
            reference in never_told and state == "preauth" and psp_reference
            for reference, state, psp_reference in in_flight
        )

    def _has_open_webhooks(self) -> bool:
        return bool(
            ask_simulator(self._instance, _UNDELIVERED) or self._ask("SELECT guid FROM inbox_work")
        )

    def _count_payments(
        self, payments: Sequence[Mapping[str, Any]], outside: Mapping[str, Any]
    ) -> None:
        ids = {payment["merchant_reference"]: payment["id"] for payment in payments}
        if len(payments) != len(ids) or ids != self._ids:
            self.report.problems.append(f"{len(self._ids)} acknowledged, {len(payments)} there")
        found = {payment["merchant_reference"]: payment for payment in payments}
        for flow in self._flows:
            payment = found.get(flow.reference)
            if payment is None:
                continue  # told above
            problems = list(problems_of(flow, payment, outside[flow.reference]))
            self._note(f"{payment['id']} of {flow}", problems)
            for word in flow.words or {"ordinary"}:
                self.report.ends.setdefault(word, Counter())[payment["state"]] += 1

    def _count_webhooks(self, webhooks: Sequence[Mapping[str, Any]]) -> None:
        """What the PSP has delivered is stored, and applied, once each."""
        states = Counter(webhook["state"] for webhook in webhooks)
        [(stored,)] = self._ask("SELECT count(*) FROM webhook_inbox")
        [(applied, distinct)] = self._ask(_APPLIED)
        if not states["delivered"] == stored == applied == distinct:
            self.report.problems.append(
                f"webhooks: {states} at the PSP, {stored} stored, {applied} applied, of"
                f" {distinct} different ones"
            )
        self._note("webhooks", set(states) - {"delivered", "lost"})
        self.report.webhooks = stored
        self.report.deliveries = sum(len(webhook["deliveries"]) for webhook in webhooks)

    def _list_payments(self) -> list[Mapping[str, Any]]:
        payments: list[Mapping[str, Any]] = []
        cursor: str | None = ""
        with self._instance.api as api:
            while cursor is not None:
                asked: dict[str, int | str] = {"limit": PAGE_ITEMS, "cursor": cursor}
                page = api.get("/payments", params=asked).raise_for_status().json()
                payments += page["items"]
                cursor = page["next_cursor"]
        return payments

    def _books(self) -> Mapping[str, Any]:
        answer = httpx2.get(f"{self._instance.demo['simulator_url']}/books", timeout=120)
        return dict(answer.json())

    def _ask(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """Read our own database, past the service."""
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            values = {"rest": [str(state) for state in REST_STATES]}
            return connection.execute(query, values).fetchall()

    def _note(self, what: str, found: Collection[object]) -> None:
        if found:
            self.report.problems.append(f"{what}: {sorted(map(str, found))[:20]}")


def run(payments: int, *, seed: int) -> Report:
    """Start so many payments at least, let them come to rest under fire, and count."""
    flows = draw(payments, seed=seed)
    with running_instance(ENVIRONMENT) as instance:
        run = Run(instance, flows)
        havoc = Havoc(instance, Random(seed))
        began_at = monotonic()
        with havoc.reigning():
            run.start()
            run.await_rest()
            run.report.seconds = round(monotonic() - began_at, 1)
        run.count(havoc)
    run.report.payments_per_second = round(len(flows) / run.report.seconds, 1)
    return run.report


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    report = run(given.payments, seed=given.seed)
    print(json.dumps(asdict(report), indent=2) if given.json else as_text(report))
    sys.exit(bool(report.problems))


def as_text(report: Report) -> str:
    """Return the report as a table of words and ends, and a line for each figure."""
    ends = sorted({state for counts in report.ends.values() for state in counts})
    rows = [["asked for", *ends]]
    for word in ("ordinary", *WORDS):
        counts = report.ends.get(word, Counter())
        rows.append([word, *(str(counts[state] or "-") for state in ends)])
    table = ["".join(f"{cell:>19}" for cell in row) for row in rows]
    figures = {name: value for name, value in vars(report).items() if name not in _NOT_FIGURES}
    lines = [f"{name:>19}  {value}" for name, value in figures.items()]
    problems = report.problems or ["nothing lost, nothing doubled, all at rest"]
    return "\n".join([*table, "", *lines, "", *problems])


_NOT_FIGURES = {"problems", "ends"}

if __name__ == "__main__":
    main()
