"""The PSP's queue: whether we block it, what came twice, what waits, and when we heard of it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from app.errors import MerchantAccountNotFound
from app.queries.psp_queue import (
    REFUSALS_MIN,
    psp_queue,
    redelivered_webhooks,
    refused_webhooks,
)
from tests.support.builders import (
    ACCOUNT,
    OTHER_HMAC_KEY,
    PSP_REFERENCE,
    a_webhook,
    an_item,
    later,
    numbered_id,
    unsigned_webhook,
)
from tests.support.commands import CommandLine
from tests.support.service import Service
from webhooks.notifications import parse

GUID = parse(unsigned_webhook(an_item()))[0].guid


def refuse(
    service: Service,
    *at_seconds: float,
    account: str = ACCOUNT,
    guid: UUID | None = GUID,
    code: str = "invalid_signature",
    body: bytes = b"{}",
) -> None:
    """Let refusals be kept, at times after NOW."""
    for seconds in at_seconds:
        service.execute(
            "INSERT INTO webhook_refusals (code, detail, claimed_account, claimed_guid,"
            " claimed_event, body, received_at)"
            " VALUES (:code, '', :account, :guid, 'AUTHORISATION', :body, :at)",
            code=code,
            account=account,
            guid=guid,
            body=body,
            at=later(seconds),
        )


def redeliver(service: Service, *gaps: float) -> None:
    """Deliver one webhook, and again after each gap."""
    service.deliver(an_item())
    for gap in gaps:
        service.advance(gap)
        service.deliver(an_item())


def queue(service: Service, account: str | None = None) -> Any:  # noqa: ANN401  # JSON
    with service.container.engine.connect() as connection:
        return psp_queue(connection, now=service.clock.at, merchant_account=account)


def refused(service: Service) -> Sequence[Any]:
    [account] = queue(service)["accounts"]
    return account["refused"]  # type: ignore[no-any-return]  # JSON


def waiting(service: Service, reason: str) -> Any:  # noqa: ANN401  # JSON
    [found] = [row for row in queue(service)["waiting"] if row["reason"] == reason]
    return found


# --- refused again and again -----------------------------------------------------------------


def test_a_webhook_that_is_refused_on_schedule_is_told_with_its_next_try(service: Service) -> None:
    refuse(service, 0, 120, 420)
    service.advance(500)

    [found] = refused(service)

    assert found["claimed_guid"] == str(GUID)
    assert found["claimed_event"] == "AUTHORISATION"
    assert (found["refusals"], found["code"]) == (3, "invalid_signature")
    assert found["since"] == "2026-11-20T09:00:00.000000Z"
    assert found["blocked_seconds"] == 500
    assert found["gaps"] == [
        {"seconds": 120, "scheduled_seconds": 120},
        {"seconds": 300, "scheduled_seconds": 300},
    ]
    assert found["is_on_schedule"]
    assert found["next_try_at"] == "2026-11-20T09:17:00.000000Z"
    assert found["is_verified"] is False


def test_a_try_that_did_not_come_is_overdue(service: Service) -> None:
    refuse(service, 0, 120)
    service.advance(419)
    [before] = refused(service)
    service.advance(2)
    [after] = refused(service)

    assert (before["is_overdue"], after["is_overdue"]) == (False, True)


def test_the_queue_of_a_refused_webhook_is_not_healthy(service: Service) -> None:
    refuse(service, 0, 120)

    assert not queue(service)["is_healthy"]


def test_one_refusal_is_no_alarm(service: Service) -> None:
    refuse(service, 0)

    assert refused(service) == []
    assert queue(service)["is_healthy"]


def test_the_queue_moves_once_the_webhook_is_accepted(service: Service) -> None:
    refuse(service, 0, 120, 420)
    service.advance(1020)

    service.deliver(an_item())

    assert refused(service) == []
    assert queue(service)["is_healthy"]


def test_an_accepted_webhook_whose_redelivery_is_refused_blocks_again(service: Service) -> None:
    service.deliver(an_item())
    refuse(service, 120, 420)
    service.advance(500)

    [found] = refused(service)

    assert found["since"] == "2026-11-20T09:02:00.000000Z"


def test_refusals_before_the_last_acceptance_do_not_count(service: Service) -> None:
    refuse(service, 0, 120)
    service.advance(420)
    service.deliver(an_item())
    service.advance(600)
    service.deliver(an_item())
    refuse(service, 1500)

    assert refused(service) == []


def test_a_strangers_refusals_for_an_account_that_is_not_registered_do_not_alarm(
    service: Service,
) -> None:
    refuse(service, 0, 120, 420, account="StrangerECOM")

    assert refused(service) == []
    assert queue(service)["is_healthy"]


def test_tries_that_are_not_the_psps_are_told_so(service: Service) -> None:
    refuse(service, 0, 1, 2, 3)

    [found] = refused(service)

    assert not found["is_on_schedule"]


def test_what_is_not_tried_any_more_blocks_nothing(service: Service) -> None:
    refuse(service, 0, 120)
    service.advance(120 + 9 * 3600)

    assert refused(service) == []


def test_what_is_tried_every_eight_hours_still_blocks(service: Service) -> None:
    refuse(service, 0, 120)
    service.advance(120 + 8 * 3600)

    assert len(refused(service)) == 1


def test_a_body_that_can_not_be_read_blocks_the_queue_as_well(service: Service) -> None:
    refuse(service, 0, 120, guid=None, code="malformed_notification", body=b"{poison")
    refuse(service, 60, guid=None, code="malformed_notification", body=b"{another")

    [found] = refused(service)

    assert (found["claimed_guid"], found["refusals"]) == (None, 2)


def test_the_longest_blocked_stands_first(service: Service) -> None:
    refuse(service, 60, 180, guid=numbered_id(2))
    refuse(service, 0, 120, guid=numbered_id(1))
    service.advance(200)

    [account] = queue(service)["accounts"]

    assert [one["claimed_guid"] for one in account["refused"]] == [
        str(numbered_id(1)),
        str(numbered_id(2)),
    ]
    assert account["blocked_seconds"] == 200


def test_many_tries_are_counted_and_the_newest_are_told(service: Service) -> None:
    refuse(service, *range(0, 3000, 100))
    service.advance(3000)

    [found] = refused(service)

    assert (found["refusals"], len(found["gaps"])) == (30, 9)
    assert found["last_refused_at"] == "2026-11-20T09:48:20.000000Z"


def test_the_service_itself_keeps_what_the_alarm_needs(service: Service) -> None:
    for _again in range(REFUSALS_MIN):
        service.post_webhook(a_webhook(key=OTHER_HMAC_KEY))
        service.advance(120)
    with service.container.engine.connect() as connection:
        [found] = refused_webhooks(connection, now=service.clock.at)

    assert (found.claimed_account, found.claimed_guid) == (ACCOUNT, GUID)


# --- accepted and delivered again ------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "reading"),
    [
        ((0,), "sent_twice"),
        ((2, 3), "sent_twice"),
        ((120,), "retried"),
        ((125, 310), "retried"),
        ((1, 120, 1), "retried"),
        ((60,), "unexplained"),
    ],
)
def test_the_gaps_say_why_a_webhook_came_again(
    service: Service, gaps: tuple[float, ...], reading: str
) -> None:
    redeliver(service, *gaps)

    [found] = queue(service)["redelivered"]["newest"]

    assert found["reading"] == reading
    assert found["deliveries"] == 1 + len(gaps)
    assert [gap["seconds"] for gap in found["gaps"]] == list(gaps)


def test_a_webhook_that_came_once_is_no_redelivery(service: Service) -> None:
    service.deliver(an_item())

    assert queue(service)["redelivered"]["webhooks"] == 0


def test_redeliveries_of_another_day_are_not_told(service: Service) -> None:
    redeliver(service, 120)
    service.advance(24 * 3600)

    assert queue(service)["redelivered"]["newest"] == []


def test_many_deliveries_are_counted_and_the_newest_are_told(service: Service) -> None:
    redeliver(service, *[120.0] * 12)
    with service.container.engine.connect() as connection:
        [found] = redelivered_webhooks(connection, now=service.clock.at)

    assert (found.deliveries, len(found.tries)) == (13, 10)
    assert found.tries[-1] == service.clock.at
    assert found.psp_reference == PSP_REFERENCE


def test_redeliveries_alone_are_healthy(service: Service) -> None:
    redeliver(service, 1, 120)

    assert queue(service)["is_healthy"]


# --- when we heard of an account --------------------------------------------------------------


def test_an_account_that_was_never_heard_of_says_so(service: Service) -> None:
    [account] = queue(service)["accounts"]

    assert account["last_webhook_seconds"] is None


def test_a_redelivery_is_a_sign_of_life(service: Service) -> None:
    redeliver(service, 120)
    service.advance(30)

    [account] = queue(service)["accounts"]

    assert account["last_webhook_seconds"] == 30


def test_the_uses_of_its_keys_tell_of_a_quiet_account(service: Service) -> None:
    service.execute(
        "INSERT INTO hmac_key_uses SELECT key_id, date '2026-11-19', 1, '2026-11-19T09:00:00Z'"
        " FROM hmac_keys"
    )

    [account] = queue(service)["accounts"]

    assert account["last_webhook_seconds"] == 24 * 3600


# --- what waits ------------------------------------------------------------------------------


def test_new_webhooks_are_counted_by_age(service: Service) -> None:
    service.deliver(an_item())
    service.advance(3600)
    service.deliver(an_item("CAPTURE", psp_reference="CAPTURE1"))
    service.advance(61)

    found = waiting(service, "new")

    assert (found["webhooks"], found["oldest_seconds"]) == (2, 3661)
    assert (found["over_a_minute"], found["over_an_hour"], found["over_a_day"]) == (2, 1, 0)


def test_orphans_are_told_apart_from_what_is_not_understood(service: Service) -> None:
    service.deliver(an_item(), an_item("NEVER_HEARD_OF", psp_reference="UNKNOWN1"))
    service.execute("UPDATE inbox_work SET state = 'parked'")
    service.execute(
        "UPDATE inbox_work SET awaits_account = :account, awaits_psp_reference = 'P1'"
        " WHERE guid = :guid",
        account=ACCOUNT,
        guid=GUID,
    )

    assert waiting(service, "orphan")["webhooks"] == 1
    assert waiting(service, "parked")["webhooks"] == 1
    assert queue(service)["is_healthy"]


def test_a_dead_webhook_is_not_healthy(service: Service) -> None:
    service.deliver(an_item())
    service.execute("UPDATE inbox_work SET state = 'dead'")

    assert waiting(service, "dead")["webhooks"] == 1
    assert not queue(service)["is_healthy"]


def test_nothing_waits_at_first(service: Service) -> None:
    assert [row["webhooks"] for row in queue(service)["waiting"]] == [0] * 4
    assert waiting(service, "new")["oldest_seconds"] is None


# --- one account -----------------------------------------------------------------------------


def test_one_account_is_told_of_without_the_others(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])
    redeliver(service, 120)
    service.execute("UPDATE inbox_work SET state = 'dead'")
    refuse(service, 0, 120, guid=numbered_id(1))

    other = queue(service, "OtherECOM")

    assert [account["merchant_account"] for account in other["accounts"]] == ["OtherECOM"]
    assert other["is_healthy"]
    assert other["redelivered"]["webhooks"] == 0
    assert not queue(service)["is_healthy"]


def test_an_unknown_account_is_no_healthy_one(service: Service) -> None:
    with pytest.raises(MerchantAccountNotFound):
        queue(service, "StrangerECOM")


# --- the command ------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
def test_a_healthy_queue_is_exit_code_0(countersign: CommandLine) -> None:
    ran = countersign("psp-queue")

    assert ran.code == 0
    assert ran.lines[0] == f"{ACCOUNT}: ok, no webhook yet"


def test_a_blocked_queue_is_exit_code_3_and_says_what_is_only_claimed(
    countersign: CommandLine, service: Service
) -> None:
    refuse(service, 0, 120)
    service.execute(
        "UPDATE webhook_refusals SET received_at = now() - interval '10 min'"
        " + (received_at - (SELECT min(received_at) FROM webhook_refusals))"
    )

    ran = countersign("psp-queue", "--merchant-account", ACCOUNT)

    assert ran.code == 3
    assert f"{ACCOUNT}: REFUSED" in ran.out
    assert "gaps 2 min: the PSP's schedule" in ran.out
    assert "claimed by the sender, not verified" in ran.out


def test_dead_webhooks_are_exit_code_3(countersign: CommandLine, service: Service) -> None:
    service.deliver(an_item())
    service.execute("UPDATE inbox_work SET state = 'dead'")

    ran = countersign("psp-queue", "--json")

    assert ran.code == 3
    assert ran.json["is_healthy"] is False


@pytest.mark.usefixtures("service")
def test_the_queue_of_an_unknown_account_is_an_error(countersign: CommandLine) -> None:
    ran = countersign("psp-queue", "--merchant-account", "StrangerECOM")

    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err
