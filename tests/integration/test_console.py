"""The console: who may look, what they see, and that hostile values stay text."""

import pytest
from flask.testing import FlaskClient

from app.domain.access import Role
from app.errors import Unauthenticated
from app.factory import create_app
from tests.support.builders import ACCOUNT, OTHER_HMAC_KEY, a_start, a_webhook, an_item
from tests.support.desk import refused_undo, unresolved_capture
from tests.support.service import Service


@pytest.fixture
def browser(service: Service) -> FlaskClient:
    """A browser that nobody has signed in with."""
    return create_app(service.container).test_client()


def sign_in(browser: FlaskClient, service: Service, role: Role = Role.OPERATOR) -> str:
    key = service.container.accounts.create_api_key(ACCOUNT, role)
    browser.post("/console/sign-in", data={"api_key": key})
    return key


@pytest.mark.parametrize(
    "page", ["/", "/console/", "/console/payments", "/console/reviews", "/console/psp-queue"]
)
def test_a_stranger_is_asked_to_sign_in(browser: FlaskClient, page: str) -> None:
    answer = browser.get(page, follow_redirects=True)

    assert answer.request.path == "/console/sign-in"


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.APPROVER, Role.AUDITOR])
def test_those_whose_work_it_is_may_look(
    browser: FlaskClient, service: Service, role: Role
) -> None:
    sign_in(browser, service, role)

    assert browser.get("/console/").status_code == 200


def test_a_checkouts_key_and_a_wrong_key_open_nothing(
    browser: FlaskClient, service: Service
) -> None:
    key = service.container.accounts.create_api_key(ACCOUNT, Role.MERCHANT)

    for refused in (key, "csk_00000000_wrong", "", "\x00"):
        assert browser.post("/console/sign-in", data={"api_key": refused}).status_code == 401
    assert browser.get("/console/").status_code == 302


def test_a_revoked_keys_session_ends_at_once(browser: FlaskClient, service: Service) -> None:
    key = sign_in(browser, service)
    service.container.accounts.revoke_api_key(key.split("_")[1])

    assert browser.get("/console/").status_code == 302


def test_a_forged_session_opens_nothing(browser: FlaskClient) -> None:
    browser.set_cookie("countersign_console", "eyJrZXlfaWQiOiJ4In0.aaaa.bbbb")

    assert browser.get("/console/").status_code == 302


def test_the_session_cookie_holds_no_key_and_is_out_of_reach_of_scripts(
    browser: FlaskClient, service: Service
) -> None:
    key = service.container.accounts.create_api_key(ACCOUNT, Role.OPERATOR)
    answer = browser.post("/console/sign-in", data={"api_key": key})

    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert key.split("_")[2] not in cookie


def test_a_payment_is_found_by_any_of_its_references_and_shows_its_timeline(
    browser: FlaskClient, service: Service
) -> None:
    payment_id = service.start()
    service.settle()
    service.receive(an_item())
    sign_in(browser, service)

    for reference in ("ORDER-1001", "8816178914079738", str(payment_id)):
        assert str(payment_id) in browser.get(f"/console/payments?q={reference}").text
    page = browser.get(f"/console/payments/{payment_id}").text
    assert "125.00 EUR" in page
    assert "Webhook AUTHORISATION true received" in page
    assert "Mail sent: email → fin" in page


def test_a_hostile_reference_stays_text(browser: FlaskClient, service: Service) -> None:
    hostile = "<script>alert(1)</script>"
    payment_id = service.start(a_start(merchant_reference=hostile))
    sign_in(browser, service)

    for page in ("/console/payments", f"/console/payments/{payment_id}"):
        answer = browser.get(page)
        assert hostile not in answer.text
        assert "&lt;script&gt;" in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_another_accounts_payment_is_not_there(browser: FlaskClient, service: Service) -> None:
    payment_id = service.start()
    service.container.accounts.add("OtherECOM", [])
    key = service.container.accounts.create_api_key("OtherECOM", Role.OPERATOR)
    browser.post("/console/sign-in", data={"api_key": key})

    assert browser.get(f"/console/payments/{payment_id}").status_code == 404
    assert str(payment_id) not in browser.get("/console/payments").text


def test_the_psp_queue_is_shown_with_what_blocks_it_and_what_waits(
    browser: FlaskClient, service: Service
) -> None:
    for _again in range(2):
        service.post_webhook(a_webhook(an_item("CAPTURE"), key=OTHER_HMAC_KEY))
        service.advance(120)
    service.deliver(an_item(), an_item())
    service.execute("UPDATE inbox_work SET state = 'dead', error = 'cannot be applied'")
    sign_in(browser, service)

    page = browser.get("/console/psp-queue").text

    assert "needs a person" in page
    assert "invalid signature" in page
    assert "two webhook configurations rather than retries" in page
    assert "cannot be applied" in page
    assert "have been refused for 4 min" in browser.get("/console/").text


def test_a_queue_that_moves_is_shown_as_healthy(browser: FlaskClient, service: Service) -> None:
    sign_in(browser, service)

    assert "None: the queue moves." in browser.get("/console/psp-queue").text
    assert "have been refused" not in browser.get("/console/").text


def test_what_strangers_claim_stays_text(browser: FlaskClient, service: Service) -> None:
    hostile = "<script>alert(1)</script>"
    service.deliver(an_item(merchant_reference=hostile))
    for _again in range(2):
        service.execute(
            "INSERT INTO webhook_refusals (code, detail, claimed_account, claimed_event, body,"
            " received_at) VALUES (:hostile, '', :account, :hostile, '', :at)",
            hostile=hostile,
            account=ACCOUNT,
            at=service.clock.at,
        )
    service.execute("UPDATE inbox_work SET error = :error", error=hostile)
    sign_in(browser, service)

    page = browser.get("/console/psp-queue").text

    assert hostile not in page
    assert page.count("&lt;script&gt;") == 4


def test_another_accounts_queue_is_not_shown(browser: FlaskClient, service: Service) -> None:
    service.deliver(an_item(merchant_reference="NOT-YOURS"))
    service.container.accounts.add("OtherECOM", [])
    key = service.container.accounts.create_api_key("OtherECOM", Role.OPERATOR)
    browser.post("/console/sign-in", data={"api_key": key})

    page = browser.get("/console/psp-queue").text

    assert "NOT-YOURS" not in page
    assert ACCOUNT not in page


def test_the_desk_tells_who_owns_what_since_when_and_what_to_do(
    browser: FlaskClient, service: Service
) -> None:
    payment_id = refused_undo(service)
    service.advance(2 * 3600)
    sign_in(browser, service)

    desk = browser.get("/console/reviews").text
    page = browser.get(f"/console/payments/{payment_id}").text

    assert f'href="/console/payments/{payment_id}"' in desk
    for shown in (desk, page):
        assert "payments on call" in shown
        assert "2 h" in shown
        assert "The PSP holds 125.00 EUR and has paid us 0.00 EUR" in shown
        version = service.payment(payment_id).version
        for action in ("resume", "skip", "force"):
            assert f"countersign payment {action} {payment_id} --if-version {version}" in shown
    assert "1 payment waits for a person, the oldest for 2 h" in browser.get("/console/").text


def test_a_capture_on_the_desk_may_also_be_abandoned(
    browser: FlaskClient, service: Service
) -> None:
    payment_id = unresolved_capture(service)
    sign_in(browser, service)

    desk = browser.get("/console/reviews").text

    assert "Capture unresolved" in desk
    assert f"countersign payment abandon {payment_id}" in desk


def test_an_empty_desk_says_so(browser: FlaskClient, service: Service) -> None:
    sign_in(browser, service)

    assert "Nobody has to look at anything." in browser.get("/console/reviews").text
    assert "for a person" not in browser.get("/console/").text


def test_a_command_that_is_copied_does_nothing_until_a_reason_is_filled_in(
    browser: FlaskClient, service: Service
) -> None:
    refused_undo(service)
    sign_in(browser, service)

    desk = browser.get("/console/reviews").text

    assert desk.count("<code>countersign ") == desk.count("--reason ''</code>") == 4


def test_hostile_owners_stay_text_and_another_accounts_desk_is_not_shown(
    browser: FlaskClient, service: Service
) -> None:
    hostile = "<script>alert(1)</script>"
    payment_id = refused_undo(service)
    service.execute("UPDATE reviews SET owner = :owner", owner=hostile)
    sign_in(browser, service)
    mine = browser.get("/console/reviews").text
    service.container.accounts.add("OtherECOM", [])
    key = service.container.accounts.create_api_key("OtherECOM", Role.OPERATOR)
    browser.post("/console/sign-in", data={"api_key": key})
    theirs = browser.get("/console/reviews").text

    assert hostile not in mine
    assert "&lt;script&gt;" in mine
    assert str(payment_id) not in theirs
    assert "for a person" not in browser.get("/console/").text


def test_signing_out_ends_the_session(browser: FlaskClient, service: Service) -> None:
    sign_in(browser, service)
    browser.post("/console/sign-out")

    assert browser.get("/console/").status_code == 302


def test_a_key_id_that_never_was_is_nobody(service: Service) -> None:
    with pytest.raises(Unauthenticated):
        service.container.accounts.caller(service.start())
