"""``fraud deny``: who is refused, and who decided it."""

import pytest

from tests.support.builders import ACCOUNT
from tests.support.commands import CommandLine, Ran
from tests.support.service import Service

WHY = ("--merchant", ACCOUNT, "--reason", "three chargebacks", "--by", "dana")


@pytest.fixture
def denied(countersign: CommandLine, service: Service) -> Ran:
    """An address that is on the list."""
    assert service.count("fraud_denials") == 0
    return countersign("fraud", "deny", "add", "email", "Mallory@Example.com", *WHY)


def test_an_address_is_denied_and_listed(countersign: CommandLine, denied: Ran) -> None:
    [entry] = countersign("fraud", "deny", "list", "--json").json

    assert (denied.code, denied.out) == (0, "")
    assert entry.pop("added_at")
    assert entry == {
        "merchant_account": ACCOUNT,
        "kind": "email",
        "value": "mallory@example.com",
        "reason": "three chargebacks",
        "added_by": "dana",
    }


def test_what_is_on_the_list_already_stays_as_it_is(
    countersign: CommandLine, denied: Ran, service: Service
) -> None:
    again = countersign("fraud", "deny", "add", "email", "mallory@example.com", *WHY)

    assert (denied.code, again.code) == (0, 0)
    assert "already" in again.err
    assert service.count("operator_actions") == 1


def test_an_entry_is_taken_off_the_list(
    countersign: CommandLine, denied: Ran, service: Service
) -> None:
    removed = countersign("fraud", "deny", "remove", "email", "MALLORY@example.com", *WHY)
    again = countersign("fraud", "deny", "remove", "email", "mallory@example.com", *WHY)

    assert (denied.code, removed.code, again.code) == (0, 0, 1)
    assert "is not on the list" in again.err
    assert service.count("fraud_denials") == 0
    assert countersign("fraud", "deny", "list").err == "nobody is on a deny list\n"


def test_every_change_is_an_operators_action_that_names_no_shopper(
    countersign: CommandLine, denied: Ran, service: Service
) -> None:
    assert denied.code == 0
    countersign(
        *("fraud", "deny", "remove", "email", "mallory@example.com"),
        *("--merchant", ACCOUNT, "--reason", "settled", "--by", "eve"),
    )

    added, removed = service.rows("SELECT * FROM operator_actions ORDER BY action_id")

    entry = {
        "kind": "email",
        "value": "m***@example.com",
        "reason": "three chargebacks",
        "added_by": "dana",
    }
    assert (added["action"], added["operator"], added["reason"]) == (
        "deny",
        "dana",
        "three chargebacks",
    )
    assert (added["before"], added["after"]) == ({}, entry)
    assert (removed["action"], removed["operator"], removed["reason"]) == (
        "allow",
        "eve",
        "settled",
    )
    assert (removed["before"], removed["after"]) == (entry, {})
    assert added["subject"] == removed["subject"] == f"deny list of {ACCOUNT}"


def test_without_a_name_the_user_of_the_shell_decides(
    countersign: CommandLine, service: Service
) -> None:
    given = ("--merchant", ACCOUNT, "--reason", "known mule")

    ran = countersign("fraud", "deny", "add", "email_domain", "example.com", *given)

    [entry] = service.rows("SELECT added_by FROM fraud_denials")
    assert ran.code == 0
    assert entry["added_by"]


def test_wrong_usage_changes_nothing(countersign: CommandLine, service: Service) -> None:
    merchant = ("--merchant", ACCOUNT)
    wrong = [
        countersign("fraud", "deny", "add", *arguments)
        for arguments in (
            ("email", "example.com", *WHY),
            ("email_domain", "mallory@example.com", *WHY),
            ("phone", "1234", *WHY),
            ("email", "mallory@example.com", *merchant),
            ("email", "mallory@example.com", *merchant, "--reason", " "),
            ("email", "mallory@example.com", "--reason", "why"),
        )
    ]

    assert [ran.code for ran in wrong] == [2] * 6
    assert service.count("fraud_denials") == service.count("operator_actions") == 0


def test_an_unknown_account_is_an_error(countersign: CommandLine, service: Service) -> None:
    given = ("--merchant", "NobodyECOM", "--reason", "why")

    ran = countersign("fraud", "deny", "add", "email", "mallory@example.com", *given)

    assert ran.code == 1
    assert ran.err == "countersign: There is no such merchant account. NobodyECOM\n"
    assert service.count("operator_actions") == 0


def test_one_accounts_entries_are_listed_alone(
    countersign: CommandLine, denied: Ran, service: Service
) -> None:
    service.container.accounts.add("OtherECOM", [])

    ours = countersign("fraud", "deny", "list", "--merchant", ACCOUNT, "--json")
    theirs = countersign("fraud", "deny", "list", "--merchant", "OtherECOM", "--json")

    assert denied.code == 0
    assert (len(ours.json), theirs.json) == (1, [])
