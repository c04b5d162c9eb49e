"""An operator applies stored webhooks again, or looks at what would come of it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from app import failpoints
from app.clock import SystemClock
from app.domain.operators import Grounds
from app.errors import NotificationNotFound
from tests.support.builders import PSP_REFERENCE, a_webhook, an_item
from tests.support.commands import CommandLine
from tests.support.service import Row, Service, at_once
from webhooks.drain import TRIES_MAX
from webhooks.notifications import parse
from webhooks.replayed import Replayed, Result
from webhooks.retention import Retention

AUTHORISATION = an_item()
CAPTURE = an_item("CAPTURE", psp_reference="CAP1", original_reference=PSP_REFERENCE)
REPORT = an_item("REPORT_AVAILABLE", psp_reference="report.csv")
UNKNOWN = an_item("CODE_OF_NEXT_YEAR", psp_reference="NEXT1")

GROUNDS = Grounds("ada", "the release that reads it is out")

#: All that a replay could touch.
TABLES = (
    "webhook_inbox",
    "inbox_work",
    "webhook_redeliveries",
    "payments",
    "payment_events",
    "saga_instances",
    "saga_steps",
    "breaks",
    "operator_actions",
)


def guid_of(item: Mapping[str, object]) -> UUID:
    return parse(a_webhook(item))[0].guid


def everything(service: Service) -> dict[str, Sequence[Row]]:
    return {table: service.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


def replayed(service: Service, *items: Mapping[str, object]) -> Replayed:
    return service.container.replay.run([guid_of(item) for item in items], grounds=GROUNDS)


def previewed(service: Service, *items: Mapping[str, object]) -> Replayed:
    return service.container.replay.run([guid_of(item) for item in items], grounds=None)


def results(of: Replayed) -> list[Result]:
    return [one.result for one in of.webhooks]


def break_body(service: Service, item: Mapping[str, object]) -> None:
    """Make a stored webhook one that this release can't read."""
    service.execute("UPDATE webhook_inbox SET body = '{}' WHERE guid = :guid", guid=guid_of(item))


def mend_body(service: Service, item: Mapping[str, object]) -> None:
    """As a newer release would: what could not be read can be."""
    service.execute(
        "UPDATE webhook_inbox SET body = :body WHERE guid = :guid",
        guid=guid_of(item),
        body=a_webhook(item),
    )


@pytest.fixture
def dead(service: Service) -> UUID:
    """A payment whose authorisation was given up."""
    payment_id = service.start()
    service.settle()
    service.deliver(AUTHORISATION)
    break_body(service, AUTHORISATION)
    for _try in range(TRIES_MAX):
        service.advance(60)
        service.drain()
    assert [work["state"] for work in service.work()] == ["dead"]
    return payment_id


@pytest.fixture
def mended(service: Service, dead: UUID) -> UUID:
    """The same, after the release that can read it."""
    mend_body(service, AUTHORISATION)
    return dead


def test_a_dead_webhook_is_applied_once_its_cause_is_gone(service: Service, mended: UUID) -> None:
    done = replayed(service, AUTHORISATION)

    assert results(done) == [Result.APPLIED]
    assert service.payment(mended).funds.authorised == 12500
    assert service.work() == []
    assert service.discrepancies() == []


def test_a_replay_tells_the_payment_before_and_after(service: Service, mended: UUID) -> None:
    before = service.payment(mended)

    done = replayed(service, AUTHORISATION)

    [diff] = done.payments.values()
    [webhook] = done.webhooks
    assert (diff.before, diff.after) == (before, service.payment(mended))
    assert diff.changed == ["state", "version", "funds_status", "authorised"]
    assert webhook.events == ("fact_recorded", "flow_moved")


def test_a_replay_lets_the_flow_go_on(service: Service, mended: UUID) -> None:
    replayed(service, AUTHORISATION)

    service.settle()

    assert service.payment(mended).state == "fin"


@pytest.mark.usefixtures("mended")
def test_a_preview_leaves_no_trace(service: Service) -> None:
    service.deliver(CAPTURE, REPORT, UNKNOWN)
    before = everything(service)

    seen = previewed(service, AUTHORISATION, CAPTURE, REPORT, UNKNOWN)

    assert results(seen) == [Result.APPLIED, Result.APPLIED, Result.UNCHANGED, Result.PARKED]
    assert everything(service) == before


@pytest.mark.parametrize("broken", [None, REPORT], ids=["all well", "with poison"])
@pytest.mark.usefixtures("mended")
def test_a_preview_tells_what_then_happens(
    service: Service, broken: Mapping[str, object] | None
) -> None:
    items = (CAPTURE, REPORT, AUTHORISATION, UNKNOWN)
    service.deliver(CAPTURE, REPORT, UNKNOWN)
    if broken:
        break_body(service, broken)

    seen = previewed(service, *items)
    done = replayed(service, *items)

    assert seen.webhooks == done.webhooks
    assert seen.payments == done.payments
    assert seen.as_json() == done.as_json() | {"dry_run": True}


def test_a_preview_of_an_external_payment_names_no_id(service: Service) -> None:
    service.deliver(CAPTURE)
    service.drain()
    service.advance(60)

    seen = previewed(service, CAPTURE).as_json()

    assert seen["payments"][0]["payment_id"] is None  # type: ignore[index]
    assert seen["payments"][0]["before"] is None  # type: ignore[index]
    assert seen["payments"][0]["after"]["captured"] == 12500  # type: ignore[index]
    assert service.count("payments") == 0


def test_a_webhook_that_was_applied_has_nothing_to_apply(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.receive(AUTHORISATION)
    before = service.payment(payment_id)

    done = replayed(service, AUTHORISATION)

    assert results(done) == [Result.UNCHANGED]
    assert done.payments[payment_id].changed == []
    assert service.payment(payment_id) == before
    assert service.work() == []


def test_a_parked_orphan_says_what_it_waits_for(service: Service) -> None:
    service.deliver(CAPTURE)
    service.drain()

    done = replayed(service, CAPTURE)

    [webhook] = done.webhooks
    assert (webhook.result, webhook.why) == (Result.PARKED, "its payment is not here yet")
    assert not done.is_settled


def test_orphans_that_are_replayed_with_what_they_await_join_it(service: Service) -> None:
    payment_id = service.start()
    service.deliver(CAPTURE, AUTHORISATION)

    done = replayed(service, CAPTURE, AUTHORISATION)

    assert results(done) == [Result.APPLIED, Result.APPLIED]
    assert service.payment(payment_id).funds.captured == 12500


@pytest.mark.usefixtures("dead")
def test_a_replay_that_fails_again_counts_as_a_try_and_keeps_its_error(service: Service) -> None:
    done = replayed(service, AUTHORISATION)

    [webhook] = done.webhooks
    [work] = service.work()
    assert (webhook.result, webhook.attempts) == (Result.FAILED, TRIES_MAX + 1)
    assert (work["state"], work["attempts"]) == ("dead", TRIES_MAX + 1)
    assert work["error"] == webhook.why
    assert "MalformedNotification" in work["error"]


@pytest.mark.usefixtures("dead")
def test_a_preview_that_fails_is_no_try(service: Service) -> None:
    before = service.work()

    seen = previewed(service, AUTHORISATION)

    assert results(seen) == [Result.FAILED]
    assert service.work() == before


def test_a_done_webhook_that_fails_now_is_left_to_the_drain(service: Service) -> None:
    service.receive(REPORT)
    break_body(service, REPORT)

    done = replayed(service, REPORT)

    [work] = service.work()
    assert results(done) == [Result.FAILED]
    assert (work["state"], work["attempts"]) == ("new", 1)


def test_one_that_fails_takes_nothing_else_along(service: Service, dead: UUID) -> None:
    other = service.start(merchant_reference="ORDER-2")
    theirs = an_item(psp_reference="PSP2", merchant_reference="ORDER-2")
    service.deliver(theirs)

    done = replayed(service, theirs, AUTHORISATION)

    assert results(done) == [Result.APPLIED, Result.FAILED]
    assert service.payment(other).funds.authorised == 12500
    assert service.payment(dead).funds.authorised == 0


@pytest.mark.parametrize("grounds", [None, GROUNDS], ids=["preview", "replay"])
def test_webhooks_that_are_not_stored_are_named_and_nothing_is_applied(
    service: Service, mended: UUID, grounds: Grounds | None
) -> None:
    before = everything(service)
    guids = [guid_of(AUTHORISATION), UUID(int=1), UUID(int=2)]

    with pytest.raises(NotificationNotFound) as caught:
        service.container.replay.run(guids, grounds=grounds)

    assert str(caught.value) == f"{UUID(int=1)}, {UUID(int=2)}"
    assert everything(service) == before
    assert service.payment(mended).funds.authorised == 0


def test_a_webhook_that_is_named_twice_is_replayed_once(service: Service, mended: UUID) -> None:
    done = replayed(service, AUTHORISATION, AUTHORISATION)

    assert results(done) == [Result.APPLIED]
    assert len(service.events(mended, "fact_recorded")) == 2  # pending, authorised


def test_a_webhook_that_a_worker_has_in_its_hands_is_left_to_it(
    service: Service, mended: UUID
) -> None:
    with service.container.engine.connect() as worker:
        worker.execute(text("SELECT FROM inbox_work FOR UPDATE"))
        done = replayed(service, AUTHORISATION)

    assert results(done) == [Result.TAKEN]
    assert service.payment(mended).funds.authorised == 0


def test_a_payment_that_is_locked_is_busy_and_its_webhook_keeps_its_error(
    service: Service, mended: UUID
) -> None:
    [before] = service.work()

    with service.container.engine.connect() as holder:
        holder.execute(
            text("SELECT FROM payments WHERE payment_id = :id FOR UPDATE"), {"id": mended}
        )
        done = replayed(service, AUTHORISATION)

    assert results(done) == [Result.BUSY]
    assert service.work() == [before]


def test_replays_and_drains_at_once_apply_each_webhook_once(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    service.deliver(AUTHORISATION, CAPTURE)

    def replay() -> None:
        replayed(service, AUTHORISATION, CAPTURE)

    at_once([replay, service.drain, replay, service.drain])
    service.advance(2)
    service.drain()

    kinds = [data["kind"] for data in service.events(payment_id, "fact_recorded")]
    assert sorted(kinds) == ["authorised", "captured", "pending"]
    assert service.work() == []
    assert service.discrepancies() == []


def test_retention_leaves_a_webhook_alone_that_is_being_replayed(service: Service) -> None:
    service.receive(REPORT)
    service.advance(500 * 24 * 3600)
    retention = Retention(
        service.container.engine,
        inbox_days=400,
        refusals_days=90,
        idempotency_days=30,
        messages_days=90,
    )

    def purge() -> None:
        retention.run(as_of=service.clock.at, max_seconds=60)

    failpoints.arm("replay.before_end", purge)
    done = replayed(service, REPORT)

    assert results(done) == [Result.UNCHANGED]
    assert service.count("webhook_inbox") == 1


def test_a_replay_uses_the_details_of_the_latest_redelivery(service: Service) -> None:
    payment_id = service.start()
    service.settle()
    failed = an_item(
        "CAPTURE_FAILED",
        psp_reference="CAP1",
        original_reference=PSP_REFERENCE,
        event_date="2026-11-20T12:00:00+01:00",
    )
    service.receive(AUTHORISATION, CAPTURE, failed)
    service.deliver({**CAPTURE, "eventDate": "2026-11-20T13:00:00+01:00"})

    replayed(service, CAPTURE)

    assert service.payment(payment_id).funds.captured == 12500


@pytest.fixture
def long_ago(service: Service) -> None:
    """Everything happens well before the machine's now, which is the command's."""
    service.clock.at = SystemClock().now() - timedelta(days=30)


@pytest.mark.usefixtures("long_ago")
def test_the_command_previews_and_then_applies(countersign: CommandLine, service: Service) -> None:
    payment_id = service.start()
    service.deliver(AUTHORISATION)
    guid = str(guid_of(AUTHORISATION))

    dry = countersign("inbox", "replay", guid, "--dry-run")
    kept = service.payment(payment_id).funds.authorised
    wet = countersign("inbox", "replay", guid, "--json")
    again = countersign("inbox", "replay", guid)

    assert [ran.code for ran in (dry, wet, again)] == [0, 0, 0]
    assert kept == 0
    assert dry.lines[0] == "dry run: this is what would happen; nothing was kept"
    assert "  authorised: 0 → 12500" in dry.lines
    [payment] = wet.json["payments"]
    assert payment["after"]["authorised"] == 12500
    assert service.payment(payment_id).funds.authorised == 12500
    assert "nothing to apply" in again.out
    assert again.lines[-1].startswith("  unchanged: state")


@pytest.mark.usefixtures("long_ago")
def test_the_command_replays_what_is_dead_or_parked(
    countersign: CommandLine, service: Service
) -> None:
    service.deliver(UNKNOWN, REPORT)
    service.drain()

    parked = countersign("inbox", "replay", "--state", "parked", "--json")
    dead = countersign("inbox", "replay", "--state", "dead", "--json")

    assert [one["guid"] for one in parked.json["webhooks"]] == [str(guid_of(UNKNOWN))]
    assert parked.json["webhooks"][0]["why"] == "unknown event code CODE_OF_NEXT_YEAR"
    assert parked.code == 3
    assert (dead.code, dead.json["webhooks"]) == (0, [])


def test_the_command_names_what_is_not_stored(countersign: CommandLine) -> None:
    ran = countersign("inbox", "replay", str(UUID(int=1)))

    assert (ran.code, ran.out) == (1, "")
    assert str(UUID(int=1)) in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("not-a-guid",),
        ("--state", "done"),
        ("--state", "dead", str(UUID(int=1))),
        ("--event-code", "CAPTURE"),
    ],
)
def test_the_command_wants_guids_or_a_state(
    countersign: CommandLine, arguments: tuple[str, ...]
) -> None:
    ran = countersign("inbox", "replay", *arguments)

    assert (ran.code, ran.out) == (2, "")
