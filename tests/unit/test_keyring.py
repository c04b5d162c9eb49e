"""Who may send us webhooks: the account's Basic credentials, and what the cache keeps."""

from base64 import b64encode
from collections.abc import Callable

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import UnknownMerchantAccount, WrongBasicCredentials
from tests.support.builders import ACCOUNT, HMAC_KEY, numbered_id
from webhooks import keyring as keyring_
from webhooks.keyring import Keyring, SenderAccount

BASIC = b"adyen:s3cret-password"


def an_account(*, basic: bytes | None = BASIC) -> SenderAccount:
    return SenderAccount(merchant_account=ACCOUNT, keys=((numbered_id(1), HMAC_KEY),), basic=basic)


def header(credentials: bytes, scheme: str = "Basic") -> str:
    return f"{scheme} {b64encode(credentials).decode()}"


class FakeAccounts:
    """Accounts by name, and how often each was looked up.

    Attributes:
        while_looking: Runs in the middle of a look-up; may raise.
    """

    def __init__(self, *accounts: SenderAccount) -> None:
        self.accounts = {account.merchant_account: account for account in accounts}
        self.lookups: list[str] = []
        self.while_looking: Callable[[], object] = lambda: None

    def load(self, merchant_account: str) -> SenderAccount | None:
        self.lookups.append(merchant_account)
        self.while_looking()
        return self.accounts.get(merchant_account)

    def names(self) -> list[str]:
        return list(self.accounts)


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_right_credentials_are_accepted(scheme: str) -> None:
    an_account().check_basic(header(BASIC, scheme))


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic Zürich",
        header(BASIC)[:-1],
        header(BASIC, "Bearer"),
        header(b""),
        header(BASIC + b"x"),
        header(BASIC[:-1]),
        header(b"adyen:S3CRET-PASSWORD"),
        BASIC.decode(),
    ],
)
def test_missing_malformed_and_wrong_credentials_are_refused(authorization: str | None) -> None:
    with pytest.raises(WrongBasicCredentials):
        an_account().check_basic(authorization)


@pytest.mark.parametrize("authorization", [None, header(BASIC), "nonsense"])
def test_account_without_credentials_asks_for_none(authorization: str | None) -> None:
    an_account(basic=None).check_basic(authorization)


def test_password_with_a_colon_is_accepted() -> None:
    an_account(basic=b"adyen:a:b").check_basic(header(b"adyen:a:b"))


def test_refusal_does_not_tell_the_credentials() -> None:
    with pytest.raises(WrongBasicCredentials) as refusal:
        an_account().check_basic(header(b"adyen:guess"))

    assert "s3cret" not in str(refusal.value)
    assert "guess" not in str(refusal.value)


def test_secrets_stay_out_of_the_repr() -> None:
    shown = repr(an_account())

    assert "s3cret" not in shown
    assert repr(HMAC_KEY) not in shown
    assert HMAC_KEY.hex() not in shown


def test_known_account_is_looked_up_once_for_a_moment() -> None:
    accounts = FakeAccounts(an_account())
    keyring = Keyring(accounts.load, accounts.names)

    found = [keyring.account(ACCOUNT) for _ in range(3)]

    assert found == [an_account()] * 3
    assert accounts.lookups == [ACCOUNT]


def test_unknown_account_is_refused() -> None:
    with pytest.raises(UnknownMerchantAccount):
        Keyring(FakeAccounts().load, list).account("Stranger")


def test_stranger_is_looked_up_each_time_so_that_registering_works_at_once() -> None:
    accounts = FakeAccounts()
    keyring = Keyring(accounts.load, accounts.names)
    with pytest.raises(UnknownMerchantAccount):
        keyring.account(ACCOUNT)

    accounts.accounts[ACCOUNT] = an_account()

    assert keyring.account(ACCOUNT) == an_account()


def test_everyone_is_every_registered_account() -> None:
    accounts = FakeAccounts(an_account())

    assert Keyring(accounts.load, accounts.names).everyone() == [an_account()]


@pytest.fixture
def outdated(monkeypatch: pytest.MonkeyPatch) -> FakeAccounts:
    """Accounts that are looked up again at each question."""
    monkeypatch.setattr(keyring_, "CACHE_SECONDS", 0.0)
    return FakeAccounts(an_account())


def no_database() -> None:
    raise PoolTimeout


def test_while_one_looks_whether_it_changed_the_others_go_on_with_what_is_known(
    outdated: FakeAccounts,
) -> None:
    keyring = Keyring(outdated.load, outdated.names)
    keyring.account(ACCOUNT)
    meanwhile: list[SenderAccount] = []
    outdated.while_looking = lambda: meanwhile.append(keyring.account(ACCOUNT))

    keyring.account(ACCOUNT)

    assert meanwhile == [an_account()]
    assert outdated.lookups == [ACCOUNT] * 2


def test_what_is_known_holds_while_the_database_can_not_tell(outdated: FakeAccounts) -> None:
    keyring = Keyring(outdated.load, outdated.names)
    keyring.account(ACCOUNT)
    outdated.while_looking = no_database

    assert [keyring.account(ACCOUNT) for _ in range(2)] == [an_account()] * 2
    assert outdated.lookups == [ACCOUNT] * 3


def test_what_is_known_does_not_hold_for_ever(
    outdated: FakeAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring(outdated.load, outdated.names)
    keyring.account(ACCOUNT)
    outdated.while_looking = no_database
    monkeypatch.setattr(keyring_, "STALE_SECONDS", 0.0)

    with pytest.raises(PoolTimeout):
        keyring.account(ACCOUNT)


def test_nothing_is_known_of_an_account_before_the_database_told_it() -> None:
    accounts = FakeAccounts(an_account())
    accounts.while_looking = no_database

    with pytest.raises(PoolTimeout):
        Keyring(accounts.load, accounts.names).account(ACCOUNT)
