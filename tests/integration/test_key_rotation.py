"""Keys change while webhooks come: HMAC keys with their uses, Basic credentials, master keys."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.domain.keys import key_check_value
from app.domain.psp_retries import RETRY_HORIZON
from app.errors import InvalidSettings, MerchantAccountNotFound
from app.persistence.accounts import StoredHmacKey
from app.persistence.encryption import new_master_key
from app.persistence.reencryption import BATCH_SIZE, SECRET_COLUMNS
from app.persistence.tables import metadata
from tests.support.builders import ACCOUNT, HMAC_KEY, NOW, OTHER_HMAC_KEY, a_webhook, later
from tests.support.commands import CommandLine
from tests.support.outages import postgres_outage
from tests.support.service import Service, at_once
from webhooks.key_uses import FLUSH_INTERVAL, KeyUses

THIRD_HMAC_KEY = bytes.fromhex("66" * 32)
DAY_SECONDS = 24 * 3600


def stored(service: Service, key: bytes) -> StoredHmacKey:
    [found] = [
        one
        for one in service.container.accounts.keys(ACCOUNT)
        if one.check_value == key_check_value(key)
    ]
    return found


@pytest.fixture
def uses(service: Service) -> KeyUses:
    return KeyUses(service.container.engine, service.clock)


@pytest.fixture
def new_master(service: Service) -> Iterator[Service]:
    """A process that has been given a new master key, in front of the old one."""
    [old] = service.container.settings.master_keys
    other = service.restarted(encryption_keys=SecretStr(f"{new_master_key()},{old}"))
    yield other
    other.container.engine.dispose()


# --- HMAC keys -------------------------------------------------------------------------------


def test_a_key_that_is_added_leaves_the_others_live(service: Service) -> None:
    service.container.accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)

    assert stored(service, HMAC_KEY).expires_at is None
    assert stored(service, OTHER_HMAC_KEY).is_live


def test_keys_that_are_replaced_expire_when_told(service: Service) -> None:
    service.container.accounts.add_key(ACCOUNT, OTHER_HMAC_KEY, others_expire_at=later(60))

    assert stored(service, HMAC_KEY).expires_at == later(60)
    assert stored(service, OTHER_HMAC_KEY).expires_at is None


def test_a_key_that_expires_earlier_keeps_its_time(service: Service) -> None:
    accounts = service.container.accounts
    accounts.expire_key(ACCOUNT, key_check_value(HMAC_KEY), at=later(-60))

    accounts.add_key(ACCOUNT, OTHER_HMAC_KEY, others_expire_at=later(60))

    assert stored(service, HMAC_KEY).expires_at == later(-60)


def test_the_keys_of_other_accounts_are_not_replaced(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])

    service.container.accounts.add_key("OtherECOM", THIRD_HMAC_KEY, others_expire_at=later(60))

    assert stored(service, HMAC_KEY).expires_at is None


def test_old_signatures_are_taken_until_the_old_key_expires(
    service: Service, restarted: Service
) -> None:
    service.container.accounts.add_key(
        ACCOUNT, OTHER_HMAC_KEY, others_expire_at=NOW + RETRY_HORIZON
    )
    service.advance(RETRY_HORIZON.total_seconds() - 1)
    before = service.post_webhook(a_webhook()).status_code
    service.advance(1)

    # A process of its own: the other one may go on with the keys it knows for a moment.
    after = restarted.post_webhook(a_webhook()).status_code

    assert (before, after) == (200, 401)


# --- uses of keys ----------------------------------------------------------------------------


def test_a_key_that_was_never_used_says_so(service: Service) -> None:
    key = stored(service, HMAC_KEY)

    assert (key.uses_today, key.uses_7_days, key.last_used_at) == (0, 0, None)


def test_uses_are_told_by_utc_day(service: Service, uses: KeyUses) -> None:
    key_id = stored(service, HMAC_KEY).key_id
    for days, times in ((8, 1), (6, 10), (1, 100), (0, 1000)):
        service.clock.at = NOW - timedelta(days=days)
        uses.count(key_id, times)
    uses.flush()

    key = stored(service, HMAC_KEY)

    assert (key.uses_today, key.uses_yesterday, key.uses_7_days) == (1000, 100, 1110)
    assert key.last_used_at == NOW


def test_an_old_key_falls_silent_while_the_new_one_is_used(service: Service, uses: KeyUses) -> None:
    service.container.accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)
    uses.count(stored(service, HMAC_KEY).key_id)
    service.advance(2 * DAY_SECONDS)
    uses.count(stored(service, OTHER_HMAC_KEY).key_id)
    uses.flush()

    old, new = stored(service, HMAC_KEY), stored(service, OTHER_HMAC_KEY)

    assert (old.uses_today, old.last_used_at) == (0, NOW)
    assert (new.uses_today, new.last_used_at) == (1, service.clock.at)


def test_counts_of_several_processes_add_up(service: Service) -> None:
    service.container.accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)
    ids = [key.key_id for key in service.container.accounts.keys(ACCOUNT)]

    def process(turn: int) -> None:
        uses = KeyUses(service.container.engine, service.clock)
        for key_id in ids if turn % 2 else reversed(ids):
            uses.count(key_id, 5)
        uses.flush()

    at_once([lambda turn=turn: process(turn) for turn in range(8)])  # type: ignore[misc]  # bound

    assert [key.uses_today for key in service.container.accounts.keys(ACCOUNT)] == [40, 40]


def test_no_use_is_lost_while_threads_count_and_flush(service: Service, uses: KeyUses) -> None:
    key_id = stored(service, HMAC_KEY).key_id

    def count() -> None:
        for _turn in range(500):
            uses.count(key_id)

    at_once([count, count, count, uses.flush, uses.flush_if_due])
    uses.flush()

    assert stored(service, HMAC_KEY).uses_today == 1500


def test_uses_are_written_at_most_once_in_an_interval(service: Service, uses: KeyUses) -> None:
    key_id = stored(service, HMAC_KEY).key_id
    told = []
    for seconds in (0, FLUSH_INTERVAL.total_seconds() - 1, 1):
        service.advance(seconds)
        uses.count(key_id)
        uses.flush_if_due()
        told.append(stored(service, HMAC_KEY).uses_today)

    assert told == [1, 1, 3]


def test_a_clock_that_is_set_back_holds_no_count_up(service: Service, uses: KeyUses) -> None:
    key_id = stored(service, HMAC_KEY).key_id
    uses.count(key_id)
    uses.flush_if_due()
    service.advance(-3600)
    uses.count(key_id)

    uses.flush_if_due()

    assert stored(service, HMAC_KEY).uses_today == 2


def test_counts_outlive_an_outage(service: Service, uses: KeyUses, database_url: str) -> None:
    key_id = stored(service, HMAC_KEY).key_id
    uses.count(key_id, 2)
    with postgres_outage(database_url):
        uses.flush()
        uses.count(key_id, 3)

    uses.flush()

    assert stored(service, HMAC_KEY).uses_today == 5


def test_a_key_that_was_deleted_takes_no_other_count_along(service: Service, uses: KeyUses) -> None:
    service.container.accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)
    uses.count(stored(service, OTHER_HMAC_KEY).key_id)
    uses.count(stored(service, HMAC_KEY).key_id)
    service.execute(
        "DELETE FROM hmac_keys WHERE check_value = :gone", gone=key_check_value(OTHER_HMAC_KEY)
    )

    uses.flush()

    assert stored(service, HMAC_KEY).uses_today == 1


# --- commands --------------------------------------------------------------------------------


def test_the_command_replaces_a_key(
    countersign: CommandLine, service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(OTHER_HMAC_KEY.hex() + "\n")

    ran = countersign("merchant", "key", "add", ACCOUNT, "--hmac-key-file", str(file), "--replace")

    assert (ran.code, ran.out) == (0, "")
    assert OTHER_HMAC_KEY.hex() not in ran.err
    assert key_check_value(OTHER_HMAC_KEY) in ran.err
    assert stored(service, OTHER_HMAC_KEY).expires_at is None
    assert stored(service, HMAC_KEY).expires_at is not None


def test_the_command_replaces_no_key_within_the_retry_horizon(
    countersign: CommandLine, service: Service
) -> None:
    key = ("--hmac-key", OTHER_HMAC_KEY.hex())

    ran = countersign("merchant", "key", "add", ACCOUNT, *key, "--expire-others-in", "29")

    assert ran.code == 2
    assert len(service.container.accounts.keys(ACCOUNT)) == 1


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("options", [(), ("--hmac-key", "44" * 32, "--hmac-key-file", "/dev/null")])
def test_a_new_key_is_given_once(countersign: CommandLine, options: tuple[str, ...]) -> None:
    assert countersign("merchant", "key", "add", ACCOUNT, *options).code == 2


def test_expiring_a_key_before_the_last_retry_is_warned_of(
    countersign: CommandLine, service: Service
) -> None:
    service.container.accounts.add_key(ACCOUNT, OTHER_HMAC_KEY)
    expire = ("merchant", "key", "expire", ACCOUNT, key_check_value(HMAC_KEY))

    soon = countersign(*expire, "--at", "2020-01-01T00:00:00Z")
    by_default = countersign(*expire)

    assert "still carry the old signature" in soon.err
    assert "WARNING" not in by_default.err


def test_expiring_the_last_live_key_is_warned_of(
    countersign: CommandLine, service: Service
) -> None:
    check_value = key_check_value(HMAC_KEY)

    in_time = countersign("merchant", "key", "expire", ACCOUNT, check_value)
    at_once_ = countersign(
        "merchant", "key", "expire", ACCOUNT, check_value, "--at", "2020-01-01T00:00:00Z"
    )

    assert f"{ACCOUNT} HAS NO LIVE KEY" in in_time.err
    assert f"from now on {ACCOUNT} HAS NO LIVE KEY" in at_once_.err
    assert not stored(service, HMAC_KEY).is_live


@pytest.mark.usefixtures("service")
def test_keys_are_listed_with_their_uses(countersign: CommandLine) -> None:
    [row] = countersign("merchant", "key", "list", ACCOUNT, "--json").json

    assert row["check_value"] == key_check_value(HMAC_KEY)
    assert row["status"] == "live"
    assert (row["uses_today"], row["uses_yesterday"], row["uses_7_days"]) == (0, 0, 0)
    assert row["last_used_at"] is None


def test_a_key_that_is_used_shortly_before_it_expires_is_warned_of(
    countersign: CommandLine, service: Service
) -> None:
    service.execute("UPDATE hmac_keys SET expires_at = now() + interval '1 day'")
    silent = countersign("merchant", "key", "list", ACCOUNT)
    service.execute(
        "INSERT INTO hmac_key_uses SELECT key_id, (now() AT TIME ZONE 'UTC')::date, 1, now()"
        " FROM hmac_keys"
    )

    used = countersign("merchant", "key", "list", ACCOUNT)

    assert "WARNING" not in silent.err
    assert f"key {key_check_value(HMAC_KEY)} expires" in used.err
    assert "still in use" in used.err


# --- Basic credentials -----------------------------------------------------------------------


def test_basic_credentials_are_changed_and_dropped(
    countersign: CommandLine, service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("pass:wörd \n")
    basic = ("merchant", "basic", ACCOUNT)

    changed = countersign(*basic, "--user", "psp", "--password-file", str(file))
    credentials = service.container.accounts.basic_credentials(ACCOUNT)
    dropped = countersign(*basic, "--none")

    assert (changed.code, dropped.code) == (0, 0)
    assert credentials == "psp:pass:wörd ".encode()
    assert "wörd" not in changed.err + changed.out
    assert service.container.accounts.basic_credentials(ACCOUNT) is None


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--user", "psp"),
        ("--password", "p"),
        ("--user", "psp", "--password", ""),
        ("--user", "a:b", "--password", "p"),
        ("--none", "--user", "psp"),
        ("--user", "psp", "--password", "p", "--password-file", "/dev/null"),
    ],
)
def test_half_of_basic_credentials_is_wrong_usage(
    countersign: CommandLine, service: Service, options: tuple[str, ...]
) -> None:
    assert countersign("merchant", "basic", ACCOUNT, *options).code == 2
    assert service.container.accounts.basic_credentials(ACCOUNT) is None


def test_an_unknown_account_has_no_credentials_to_change(service: Service) -> None:
    with pytest.raises(MerchantAccountNotFound):
        service.container.accounts.set_basic_credentials("StrangerECOM", ("u", "p"))


# --- master keys -----------------------------------------------------------------------------


def test_every_encrypted_column_is_reencrypted() -> None:
    encrypted = {
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.c
        if column.name.endswith("_encrypted")
    }

    assert {(column.table.name, column.secret) for column in SECRET_COLUMNS} == encrypted


def test_secrets_come_under_the_newest_master_key(service: Service, new_master: Service) -> None:
    service.container.accounts.add("BasicECOM", [OTHER_HMAC_KEY], basic=("psp", "password"))
    accounts = new_master.container.accounts
    before = accounts.secrets_under_old_keys()

    changed = accounts.reencrypt()

    newest = new_master.container.settings.master_keys[0]
    alone = service.restarted(encryption_keys=SecretStr(newest))
    opened = (
        alone.container.accounts.live_keys(ACCOUNT)[0][1],
        alone.container.accounts.basic_credentials("BasicECOM"),
    )
    alone.container.engine.dispose()
    assert (before, changed, accounts.secrets_under_old_keys()) == (3, 3, 0)
    assert opened == (HMAC_KEY, b"psp:password")


def test_reencrypting_again_changes_nothing(new_master: Service) -> None:
    accounts = new_master.container.accounts
    accounts.reencrypt()
    tokens = new_master.rows("SELECT secret_encrypted FROM hmac_keys")

    assert accounts.reencrypt() == 0
    assert new_master.rows("SELECT secret_encrypted FROM hmac_keys") == tokens


def test_every_batch_is_reencrypted(service: Service, new_master: Service) -> None:
    keys = [number.to_bytes(32, "big") for number in range(2 * BATCH_SIZE)]
    service.container.accounts.add("ManyECOM", keys)
    accounts = new_master.container.accounts

    assert accounts.reencrypt() == 2 * BATCH_SIZE + 1
    assert accounts.secrets_under_old_keys() == 0


def test_uses_are_written_while_a_key_is_being_reencrypted(service: Service, uses: KeyUses) -> None:
    uses.count(stored(service, HMAC_KEY).key_id)
    [column] = [column for column in SECRET_COLUMNS if column.table.name == "hmac_keys"]
    with service.container.engine.begin() as connection:
        connection.execute(column.batch(None).with_for_update(key_share=True))
        uses.flush()

    assert stored(service, HMAC_KEY).uses_today == 1


def test_a_secret_that_no_master_key_opens_is_told(service: Service) -> None:
    stranger = service.restarted(encryption_keys=SecretStr(new_master_key()))

    with pytest.raises(InvalidSettings, match="is an old key missing"):
        stranger.container.accounts.reencrypt()

    assert stranger.container.accounts.secrets_under_old_keys() == 1
    stranger.container.engine.dispose()


def test_the_command_tells_how_many_were_reencrypted(
    countersign: CommandLine, service: Service
) -> None:
    [old] = service.container.settings.master_keys
    keys = f"{new_master_key()},{old}"

    ran = countersign("merchant", "reencrypt", "--json", COUNTERSIGN_ENCRYPTION_KEYS=keys)

    assert (ran.code, ran.json) == (0, {"reencrypted": 1})
