"""``merchant`` and ``api-key``: data on stdout, messages on stderr, secrets shown once or never."""

import pytest

from app.domain.access import Role
from app.domain.keys import key_check_value
from tests.support.builders import ACCOUNT, HMAC_KEY, OTHER_HMAC_KEY
from tests.support.commands import CommandLine
from tests.support.service import Service


def test_a_merchant_is_added_with_all_its_keys(countersign: CommandLine, service: Service) -> None:
    keys = ("--hmac-key", HMAC_KEY.hex(), "--hmac-key", OTHER_HMAC_KEY.hex().upper())

    ran = countersign("merchant", "add", "ShopECOM", *keys)

    live = {key for _id, key in service.container.accounts.live_keys("ShopECOM")}
    assert (ran.code, ran.out) == (0, "")
    assert live == {HMAC_KEY, OTHER_HMAC_KEY}
    assert HMAC_KEY.hex() not in ran.err


def test_a_merchant_is_added_with_basic_credentials(
    countersign: CommandLine, service: Service
) -> None:
    countersign("merchant", "add", "ShopECOM", "--basic-user", "u", "--basic-password", "p:w")

    assert service.container.accounts.basic_credentials("ShopECOM") == b"u:p:w"


@pytest.mark.usefixtures("service")
def test_a_merchant_that_exists_is_an_error_without_a_traceback(countersign: CommandLine) -> None:
    ran = countersign("merchant", "add", ACCOUNT)

    assert ran.code == 1
    assert ran.err.startswith("countersign: This merchant account is registered already.")
    assert "Traceback" not in ran.err


def test_wrong_usage_is_exit_code_2(countersign: CommandLine, service: Service) -> None:
    wrong = [
        countersign("merchant", "add", "ShopECOM", "--hmac-key", "short"),
        countersign("merchant", "add", "ShopECOM", "--basic-user", "u"),
        countersign("merchant", "add"),
        countersign("no-such-command"),
    ]

    assert [ran.code for ran in wrong] == [2] * 4
    assert all(ran.out == "" for ran in wrong)
    assert service.container.accounts.names() == [ACCOUNT]


@pytest.mark.usefixtures("service")
def test_merchants_are_listed(countersign: CommandLine) -> None:
    ran = countersign("merchant", "list", "--json")

    assert ran.json == [{"merchant_account": ACCOUNT, "live_keys": 1}]


def test_a_key_is_rotated(countersign: CommandLine, service: Service) -> None:
    old = key_check_value(HMAC_KEY)
    added = countersign("merchant", "key", "add", ACCOUNT, "--hmac-key", OTHER_HMAC_KEY.hex())
    expired = countersign(
        "merchant", "key", "expire", ACCOUNT, old, "--at", "2026-11-20T08:00:00+00:00"
    )
    listed = countersign("merchant", "key", "list", ACCOUNT, "--json")

    live = [key for _id, key in service.container.accounts.live_keys(ACCOUNT)]
    assert (added.code, expired.code) == (0, 0)
    assert live == [OTHER_HMAC_KEY]
    expiry = {row["check_value"]: row["expires_at"] for row in listed.json}
    assert expiry == {
        key_check_value(OTHER_HMAC_KEY): None,
        old: "2026-11-20 08:00:00+00:00",
    }


@pytest.mark.usefixtures("service")
def test_key_material_is_never_listed(countersign: CommandLine) -> None:
    shown = [
        countersign("merchant", "key", "list", ACCOUNT),
        countersign("merchant", "key", "list", ACCOUNT, "--json"),
        countersign("merchant", "list"),
    ]

    assert not [ran for ran in shown if HMAC_KEY.hex() in (ran.out + ran.err).lower()]


@pytest.mark.usefixtures("service")
def test_an_unknown_key_can_not_expire(countersign: CommandLine) -> None:
    ran = countersign("merchant", "key", "expire", ACCOUNT, "000000")

    assert ran.code == 1
    assert "Traceback" not in ran.err


def test_an_api_key_stands_alone_on_its_line_and_works(
    countersign: CommandLine, service: Service
) -> None:
    ran = countersign("api-key", "create", "--merchant", ACCOUNT, "--role", "auditor")

    [api_key] = ran.lines
    assert service.container.accounts.authenticate(api_key).role is Role.AUDITOR


def test_api_keys_are_listed_without_their_secrets_and_revoked(
    countersign: CommandLine, service: Service
) -> None:
    api_key = service.api_key()
    _mark, prefix, secret = api_key.split("_", 2)

    revoked = countersign("api-key", "revoke", prefix)
    listed = countersign("api-key", "list", "--json")

    [row] = listed.json
    assert revoked.code == 0
    assert (row["prefix"], row["role"]) == (prefix, "merchant")
    assert row["revoked_at"] is not None
    assert secret not in listed.out


def test_a_participants_key_is_made_for_one_service_and_listed_with_it(
    countersign: CommandLine, service: Service
) -> None:
    made = countersign(
        *("api-key", "create", "--merchant", ACCOUNT),
        *("--role", "participant"),
        "--service",
        "mail",
    )
    listed = countersign("api-key", "list", "--json")

    caller = service.container.accounts.authenticate(made.lines[0])
    assert (caller.role, caller.service_id) == (Role.PARTICIPANT, "mail")
    assert [(row["role"], row["service"]) for row in listed.json] == [("participant", "mail")]


def test_a_service_goes_with_the_role_participant_and_only_with_it(
    countersign: CommandLine, service: Service
) -> None:
    create = ("api-key", "create", "--merchant", ACCOUNT)

    wrong = [
        countersign(*create, "--role", "participant"),
        countersign(*create, "--service", "booking"),
        countersign(*create, "--role", "auditor", "--service", "booking"),
        countersign(*create, "--role", "participant", "--service", "weather"),
    ]

    assert [(ran.code, ran.out) for ran in wrong] == [(2, "")] * 4
    assert service.container.accounts.api_keys() == []
