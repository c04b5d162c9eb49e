"""``payment resume|skip|force|abandon``, ``review`` and ``audit`` as people run them (F29)."""

import getpass
from datetime import timedelta
from uuid import UUID

import pytest

from app.clock import SystemClock
from tests.support.builders import an_item
from tests.support.commands import CommandLine
from tests.support.desk import REASON, authorising, refused_undo
from tests.support.service import Service


@pytest.fixture(autouse=True)
def long_ago(service: Service) -> None:
    """Everything happened well before the machine's now, which is the commands'."""
    service.clock.at = SystemClock().now() - timedelta(days=3)


@pytest.fixture
def waiting(service: Service) -> UUID:
    """A payment on a desk."""
    return refused_undo(service)


def test_a_payment_is_resumed_in_the_name_of_who_is_logged_in(
    countersign: CommandLine, service: Service, waiting: UUID
) -> None:
    ran = countersign("payment", "resume", str(waiting), "--reason", REASON)

    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == [f"{waiting} ORDER-1001: compensating"]
    [line] = service.rows("SELECT operator, reason FROM operator_actions")
    assert line == {"operator": getpass.getuser(), "reason": REASON}


@pytest.mark.parametrize(
    ("action", "options", "state"),
    [
        ("skip", (), "compensating"),
        ("abandon", (), "compensating"),
        ("force", ("--to", "compensated"), "compensated"),
    ],
)
def test_every_action_prints_the_payment_as_json(
    countersign: CommandLine, waiting: UUID, action: str, options: tuple[str, ...], state: str
) -> None:
    ran = countersign(
        *("payment", action, str(waiting), "--reason", REASON, "--by", "ada", "--json"), *options
    )

    assert ran.code == 0
    assert (ran.json["id"], ran.json["state"]) == (str(waiting), state)


def test_a_payment_that_is_not_waiting_is_abandoned_before_its_mail_only(
    countersign: CommandLine, service: Service
) -> None:
    running = authorising(service)
    abandoned = countersign("payment", "abandon", str(running), "--reason", REASON)
    sold = service.start(merchant_reference="ORDER-2")
    service.settle()
    service.receive(an_item(merchant_reference="ORDER-2", psp_reference="PSP2"))
    refused = countersign("payment", "abandon", str(sold), "--reason", REASON)

    assert abandoned.code == 0
    assert (refused.code, refused.out) == (1, "")
    assert "abandon does not apply to a payment in fin; refund it instead" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("resume", ()),
        ("skip", ()),
        ("abandon", ()),
        ("force", ("--to", "fin")),
        ("resume", ("--reason", "  ")),
        ("skip", ("--reason", REASON, "--by", " ")),
        ("abandon", ("--reason", REASON, "--if-version", "0")),
    ],
)
def test_nothing_is_done_without_a_reason_and_a_name(
    countersign: CommandLine,
    service: Service,
    waiting: UUID,
    action: str,
    options: tuple[str, ...],
) -> None:
    ran = countersign("payment", action, str(waiting), *options)

    assert (ran.code, ran.out) == (2, "")
    assert service.payment(waiting).state == "manual_review"


@pytest.mark.parametrize("options", [(), ("--to", "email"), ("--to", "external")])
def test_force_wants_a_state_that_a_payment_may_end_in(
    countersign: CommandLine, waiting: UUID, options: tuple[str, ...]
) -> None:
    ran = countersign("payment", "force", str(waiting), "--reason", REASON, *options)

    assert (ran.code, ran.out) == (2, "")
    assert "--to" in ran.err


def test_a_payment_that_has_changed_since_it_was_looked_at_is_left_alone(
    countersign: CommandLine, service: Service, waiting: UUID
) -> None:
    version = service.payment(waiting).version
    arguments = ("payment", "skip", str(waiting), "--reason", REASON, "--if-version")

    stale = countersign(*arguments, str(version - 1))
    fresh = countersign(*arguments, str(version))

    assert (stale.code, fresh.code) == (1, 0)
    assert f"is in version {version}" in stale.err


def test_a_payment_is_shown_with_its_desk_and_with_what_was_done_by_hand(
    countersign: CommandLine, waiting: UUID
) -> None:
    before = countersign("payment", "show", str(waiting))
    as_json = countersign("payment", "show", str(waiting), "--json")
    countersign("payment", "skip", str(waiting), "--reason", REASON, "--by", "ada")
    after = countersign("payment", "show", str(waiting))

    assert "on the desk of       payments on call, for 3 d" in before.lines
    assert as_json.json["review"]["step"] == "preauth"
    assert "on the desk of" not in after.out
    assert after.lines[-1].endswith(f"Undo skipped: manual_review → compensating, by ada: {REASON}")


def test_the_desk_is_listed_with_whose_why_and_what_next(
    countersign: CommandLine, waiting: UUID
) -> None:
    table = countersign("review", "list")
    as_json = countersign("review", "list", "--owner", "payments on call", "--json")
    nobodys = countersign("review", "list", "--owner", "nobody")

    header, line = table.lines
    assert header.split() == [
        *("payment", "merchant_reference", "owner", "age", "reason", "held", "kept", "next_step")
    ]
    assert str(waiting) in line
    assert "payments on call  3 d  undo_failed (preauth)  125.00 EUR  0.00 EUR" in line
    [review] = as_json.json
    assert review["next_step"] in line
    assert (nobodys.code, nobodys.out) == (0, "")
    assert "nothing waits for a person" in nobodys.err


def test_a_review_is_assigned_and_the_audit_tells_it(
    countersign: CommandLine, service: Service, waiting: UUID
) -> None:
    given = countersign(
        *("review", "assign", str(waiting), "--to", "grace"),
        *("--reason", REASON, "--by", "ada"),
    )
    listed = countersign("review", "list", "--owner", "grace", "--json")
    of_nobody = countersign(
        *("review", "assign", str(finished_too(service)), "--to", "grace", "--reason", REASON)
    )

    assert (given.code, given.out) == (0, "")
    assert [review["payment_id"] for review in listed.json] == [str(waiting)]
    assert of_nobody.code == 1
    assert "there is no open review" in of_nobody.err


def finished_too(service: Service) -> UUID:
    service.outside.booking.says_yes = True
    payment_id = service.start(merchant_reference="ORDER-2")
    service.settle()
    service.receive(an_item(merchant_reference="ORDER-2", psp_reference="PSP2"))
    return payment_id


def test_the_audit_lists_what_was_done_newest_first(
    countersign: CommandLine, waiting: UUID
) -> None:
    by_ada = ("--reason", REASON, "--by", "ada")
    countersign("review", "assign", str(waiting), "--to", "grace", *by_ada)
    countersign("payment", "resume", str(waiting), *by_ada)

    table = countersign("audit")
    as_json = countersign("audit", "--subject", str(waiting), "--json")
    newest = countersign("audit", "--limit", "1", "--json")
    of_another = countersign("audit", "--subject", "another", "--json")

    header, resumed, assigned = table.lines
    assert header.split() == ["at", "operator", "action", "subject", "change", "reason"]
    assert "manual_review → compensating" in resumed
    assert "payments on call → grace" in assigned
    assert [line["action"] for line in as_json.json] == ["resume", "assign"]
    assert as_json.json[0]["before"]["review"]["owner"] == "grace"
    assert [line["action"] for line in newest.json] == ["resume"]
    assert of_another.json == []


def test_a_replay_is_audited_and_its_preview_is_not(
    countersign: CommandLine, service: Service
) -> None:
    payment_id = service.start()
    service.deliver(an_item())
    [stored] = service.rows("SELECT guid FROM webhook_inbox")
    guid = str(stored["guid"])

    countersign("inbox", "replay", guid, "--dry-run")
    previewed = countersign("audit", "--json").json
    countersign("inbox", "replay", guid)
    countersign("inbox", "replay", guid, "--reason", REASON, "--by", "ada")
    blank = countersign("inbox", "replay", guid, "--reason", "")
    table = countersign("audit", "--subject", guid)
    again, first = countersign("audit", "--subject", guid, "--json").json

    assert previewed == []
    assert blank.code == 2
    assert (first["operator"], first["reason"]) == (
        getpass.getuser(),
        "replayed from the command line",
    )
    assert (again["operator"], again["reason"]) == ("ada", REASON)
    assert first["before"]["webhook"]["state"] == "new"
    assert first["before"]["payment"]["authorised"] == 0
    assert first["after"]["webhook"] == {
        "state": "done",
        "attempts": 0,
        "error": None,
        "result": "applied",
        "events": first["after"]["webhook"]["events"],
    }
    assert first["after"]["payment"]["id"] == str(payment_id)
    assert first["after"]["payment"]["authorised"] == 12500
    assert again["before"]["webhook"]["state"] == "done"
    assert [line.split()[3:6] for line in table.lines[1:]] == [
        [guid, "done", "→"],
        [guid, "new", "→"],
    ]


def test_a_replay_that_is_not_kept_leaves_no_line(countersign: CommandLine) -> None:
    ran = countersign("inbox", "replay", str(UUID(int=1)), "--reason", REASON)

    assert ran.code == 1
    assert countersign("audit", "--json").json == []
