"""Keys at rest: HMAC keys encrypted under rotatable master keys, API keys as hashes."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from app.domain.access import Role
from app.errors import (
    InvalidFields,
    InvalidSettings,
    KeyNotFound,
    MerchantAccountExists,
    MerchantAccountNotFound,
    Unauthenticated,
)
from app.persistence.encryption import new_master_key
from tests.support.builders import ACCOUNT, HMAC_KEY, OTHER_HMAC_KEY, a_webhook, an_item
from tests.support.service import Service


def everything_stored(service: Service) -> str:
    lines = []
    for table in service.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows = service.rows(f"SELECT t::text AS line FROM {table['tablename']} t")
        lines += [str(row["line"]) for row in rows]
    return "\n".join(lines)


def under_keys(service: Service, *keys: str) -> Service:
    return service.restarted(encryption_keys=SecretStr(",".join(keys)))


def test_an_hmac_key_is_not_stored_in_clear(service: Service) -> None:
    [row] = service.rows("SELECT secret_encrypted FROM hmac_keys")

    assert HMAC_KEY not in bytes(row["secret_encrypted"])
    assert HMAC_KEY.hex() not in everything_stored(service)
    assert service.container.accounts.live_keys(ACCOUNT)[0][1] == HMAC_KEY


def test_basic_credentials_are_not_stored_in_clear(service: Service) -> None:
    service.container.accounts.add("BasicECOM", [HMAC_KEY], basic=("psp", "pass-word-7"))

    stored = everything_stored(service)
    assert "pass-word-7" not in stored
    assert b"pass-word-7".hex() not in stored
    assert service.container.accounts.basic_credentials("BasicECOM") == b"psp:pass-word-7"


def test_an_api_key_is_stored_as_a_hash_only(service: Service) -> None:
    api_key = service.api_key()

    secret = api_key.split("_", 2)[2]
    stored = everything_stored(service)
    assert secret not in stored
    assert secret.encode().hex() not in stored


def test_the_same_secret_is_encrypted_differently_each_time(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [HMAC_KEY])

    tokens = service.rows("SELECT DISTINCT secret_encrypted FROM hmac_keys")
    assert len(tokens) == 2


def test_a_new_master_key_in_front_opens_old_secrets_and_closes_new_ones(service: Service) -> None:
    [old] = service.container.settings.master_keys
    new = new_master_key()
    rotating = under_keys(service, new, old)
    rotating.container.accounts.add("NewECOM", [OTHER_HMAC_KEY])
    only_new = under_keys(service, new)

    assert rotating.container.accounts.live_keys(ACCOUNT)[0][1] == HMAC_KEY
    assert only_new.container.accounts.live_keys("NewECOM")[0][1] == OTHER_HMAC_KEY
    for other in (rotating, only_new):
        other.container.close()


def test_webhooks_are_taken_all_through_a_rotation_of_master_keys(service: Service) -> None:
    [old] = service.container.settings.master_keys
    rotating = under_keys(service, new_master_key(), old)

    response = rotating.post_webhook(a_webhook())
    rotating.container.close()

    assert response.status_code == 200


def test_a_missing_master_key_says_so_and_shows_nothing(service: Service) -> None:
    stranger = under_keys(service, new_master_key())

    with pytest.raises(InvalidSettings, match="is an old key missing") as caught:
        stranger.container.accounts.live_keys(ACCOUNT)
    stranger.container.close()

    assert HMAC_KEY.hex() not in str(caught.value)


def test_a_missing_master_key_acknowledges_nothing(service: Service) -> None:
    stranger = under_keys(service, new_master_key())

    response = stranger.post_webhook(a_webhook())
    stranger.container.close()

    assert response.status_code >= 500
    assert service.count("webhook_inbox") == 0


def test_an_api_key_names_its_account_and_role(service: Service) -> None:
    caller = service.container.accounts.authenticate(service.api_key(Role.AUDITOR))

    assert (caller.merchant_account, caller.role) == (ACCOUNT, Role.AUDITOR)


def test_a_revoked_api_key_is_useless_at_once(service: Service) -> None:
    api_key = service.api_key()
    service.container.accounts.revoke_api_key(api_key.split("_")[1])

    with pytest.raises(Unauthenticated):
        service.container.accounts.authenticate(api_key)


def test_an_api_key_can_not_be_revoked_twice(service: Service) -> None:
    prefix = service.api_key().split("_")[1]
    service.container.accounts.revoke_api_key(prefix)

    with pytest.raises(KeyNotFound):
        service.container.accounts.revoke_api_key(prefix)


def test_an_api_key_works_until_it_expires(service: Service) -> None:
    accounts = service.container.accounts
    until = service.clock.at + timedelta(hours=1)
    api_key = accounts.create_api_key(ACCOUNT, Role.MERCHANT, expires_at=until)
    service.advance(3599)
    accounts.authenticate(api_key)
    service.advance(1)

    with pytest.raises(Unauthenticated):
        accounts.authenticate(api_key)


@pytest.mark.parametrize("spoil", [lambda key: key[:-1], lambda key: key + "x", str.upper])
def test_an_api_key_that_is_nearly_right_is_wrong(service: Service, spoil: type[str]) -> None:
    with pytest.raises(Unauthenticated):
        service.container.accounts.authenticate(spoil(service.api_key()))


def test_an_hmac_key_expires_at_its_time(service: Service) -> None:
    accounts = service.container.accounts
    [key] = accounts.keys(ACCOUNT)
    accounts.expire_key(ACCOUNT, key.check_value.lower(), at=service.clock.at + timedelta(hours=1))
    before = len(accounts.live_keys(ACCOUNT))
    service.advance(3600)

    assert (before, len(accounts.live_keys(ACCOUNT))) == (1, 0)


def test_a_key_that_is_added_twice_is_one_key(service: Service) -> None:
    service.container.accounts.add_key(ACCOUNT, HMAC_KEY)

    assert len(service.container.accounts.keys(ACCOUNT)) == 1


def test_an_expired_key_that_is_added_again_is_live_again(service: Service) -> None:
    accounts = service.container.accounts
    [key] = accounts.keys(ACCOUNT)
    accounts.expire_key(ACCOUNT, key.check_value, at=service.clock.at)

    accounts.add_key(ACCOUNT, HMAC_KEY)

    assert len(accounts.live_keys(ACCOUNT)) == 1


def test_an_account_is_registered_once(service: Service) -> None:
    with pytest.raises(MerchantAccountExists):
        service.container.accounts.add(ACCOUNT, [OTHER_HMAC_KEY])

    assert len(service.container.accounts.keys(ACCOUNT)) == 1


def test_an_unknown_account_gets_no_key(service: Service) -> None:
    accounts = service.container.accounts

    with pytest.raises(MerchantAccountNotFound):
        accounts.add_key("StrangerECOM", HMAC_KEY)
    with pytest.raises(MerchantAccountNotFound):
        accounts.create_api_key("StrangerECOM", Role.MERCHANT)


def test_a_test_webhook_of_every_live_account_is_accepted(service: Service) -> None:
    service.container.accounts.add("OtherECOM", [OTHER_HMAC_KEY])
    item = an_item(merchant_account="OtherECOM")

    assert service.post_webhook(a_webhook(item, key=OTHER_HMAC_KEY)).status_code == 200


@pytest.mark.parametrize("name", ["", "a b", "a:b", "../x", "x" * 81])
def test_what_is_no_account_of_the_psp_is_not_registered(service: Service, name: str) -> None:
    with pytest.raises(InvalidFields, match="account"):
        service.container.accounts.add(name, [HMAC_KEY])

    assert service.container.accounts.names() == [ACCOUNT]
