"""Commands and responses are messages, written in the commit of what they decide (F4, F21, F22)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from app import failpoints
from app.domain.identifiers import message_id
from app.domain.saga import Direction
from app.errors import GatewayRejected, GatewayTimeout, GatewayUnavailable
from app.sagas.orchestrator import FAILED_WAIT
from tests.support.builders import ACCOUNT, PSP_REFERENCE, an_item
from tests.support.runners import Recorder, run_all
from tests.support.service import Crash, Row, Service, crash


@pytest.fixture
def psp(service: Service) -> Recorder:
    return Recorder(service.outside.psp.handle)


@pytest.fixture
def recorded(service: Service, psp: Recorder) -> Iterator[Service]:
    """The service, whose PSP remembers the messages that it got."""
    outside = {**service.outside.participants(), "psp": psp}
    container = replace(service.container, outside=outside)
    yield replace(service, container=container)
    container.close()


def commands(service: Service) -> list[Row]:
    return service.rows("SELECT * FROM commands ORDER BY timestamp, service_id")


def responses(service: Service, service_id: str = "psp") -> list[Row]:
    return service.rows(
        "SELECT * FROM responses WHERE service_id = :id ORDER BY timestamp", id=service_id
    )


def step(service: Service, name: str, direction: Direction = Direction.ACT) -> Row | None:
    found = service.rows(
        "SELECT * FROM saga_steps WHERE step = :name AND direction = :direction",
        name=name,
        direction=direction,
    )
    return found[0] if found else None


def break_inserts_into(service: Service, table: str) -> None:
    service.execute(
        "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no room'; END $$;"
        f"CREATE TRIGGER stumble BEFORE INSERT ON {table} EXECUTE FUNCTION stumble()"
    )


def mend(service: Service, table: str) -> None:
    service.execute(f"DROP TRIGGER stumble ON {table}")


def test_every_try_of_one_decision_is_the_same_message(recorded: Service, psp: Recorder) -> None:
    recorded.outside.psp.failures = [GatewayUnavailable("503")]
    recorded.outside.psp.lost_answers = [GatewayTimeout("no answer")]
    recorded.start()
    for _ in range(3):
        recorded.later(2)

    [row] = [row for row in commands(recorded) if row["service_id"] == "psp"]
    assert len(psp.commands) == 3
    assert psp.commands[0] == replace(psp.commands[1], timestamp=psp.commands[0].timestamp)
    assert {command.message_id for command in psp.commands} == {row["message_id"]}
    assert row["message_id"] == message_id(row["idempotency_key"])


def test_a_command_says_all_that_its_participant_needs(recorded: Service, psp: Recorder) -> None:
    payment_id = recorded.start()
    recorded.settle()

    [command] = psp.commands
    [row] = [row for row in commands(recorded) if row["service_id"] == "psp"]
    [saga] = recorded.rows("SELECT saga_id, payment_id FROM saga_instances")
    assert saga["payment_id"] == payment_id
    assert (command.saga_id, command.merchant_account) == (saga["saga_id"], ACCOUNT)
    assert command.data["merchant_reference"] == "ORDER-1001"
    assert {name: row[name] for name in ("operation", "idempotency_key", "data", "timestamp")} == {
        name: getattr(command, name)
        for name in ("operation", "idempotency_key", "data", "timestamp")
    }
    assert (row["step"], row["direction"], row["round"]) == ("preauth", "act", 1)
    assert (row["offered_until"], row["taken_by"]) == (None, None)
    assert len(command.idempotency_key) == 64


def test_a_yes_and_a_no_are_responses_to_their_commands(service: Service) -> None:
    service.outside.booking.says_yes = False
    service.start()
    service.settle()
    service.receive(an_item())

    asked = {(row["service_id"], row["operation"]): row for row in commands(service)}
    yes, no, cancelled = responses(service)[0], *responses(service, "booking")
    assert (yes["success"], yes["data"]) == (
        True,
        {"psp_reference": PSP_REFERENCE, "result": "Authorised"},
    )
    assert (no["success"], no["data"]) == (False, {"status": "answered"})
    assert yes["command_id"] == asked["psp", "authorise"]["message_id"]
    assert no["command_id"] == asked["booking", "confirm"]["message_id"]
    assert cancelled["command_id"] == asked["booking", "cancel"]["message_id"]
    assert all(row["applied_at"] == row["timestamp"] for row in (yes, no, cancelled))


@pytest.mark.parametrize("error", [GatewayTimeout, GatewayUnavailable, GatewayRejected])
def test_a_call_without_an_answer_has_no_response(
    service: Service, error: type[GatewayTimeout | GatewayUnavailable | GatewayRejected]
) -> None:
    """F8."""
    service.outside.psp.failures = [error("?")]
    service.start()
    service.settle()

    assert responses(service) == []


def test_each_command_and_each_undo_is_on_disk_before_the_call_is_made(service: Service) -> None:
    """F21: the intent, the message and the registered undo are one commit."""
    seen: list[tuple[str, str, str]] = []

    def look() -> None:
        act, undo = step(service, "preauth"), step(service, "preauth", Direction.UNDO)
        assert act is not None
        assert undo is not None
        [command] = [row for row in commands(service) if row["service_id"] == "psp"]
        seen.append((act["status"], undo["status"], command["operation"]))

    service.outside.psp.before_answer = look
    service.start()
    service.settle()

    assert seen == [("asked", "registered", "authorise")]


def test_no_call_is_made_whose_message_could_not_be_written(service: Service) -> None:
    """F21: intent before effect."""
    payment_id = service.start()
    break_inserts_into(service, "commands")
    run_all(service)
    asked = service.outside.fraud.calls[:]
    intent = step(service, "fraud_check")
    mend(service, "commands")

    service.later(FAILED_WAIT.total_seconds())

    assert (asked, intent) == ([], None)
    assert service.payment(payment_id).state == "preauth"
    assert service.outside.fraud.asked("check") == 1


def test_a_saga_does_not_move_by_a_response_that_could_not_be_written(service: Service) -> None:
    """F22: none of both, and the call is repeated under its key."""
    payment_id = service.start()
    break_inserts_into(service, "responses")
    run_all(service)
    before = service.payment(payment_id)
    row = step(service, "fraud_check")
    mend(service, "responses")

    service.later(FAILED_WAIT.total_seconds())

    assert (before.state, before.version) == ("fraud_check", 1)
    assert row is not None
    assert row["status"] == "asked"
    assert service.payment(payment_id).state == "preauth"
    assert service.outside.fraud.asked("check") == 2
    assert len(service.outside.fraud.effects) == 1


@pytest.mark.parametrize("name", ["saga.before_effect", "saga.after_effect"])
def test_death_before_the_commit_leaves_the_intent_and_no_response(
    service: Service, name: str
) -> None:
    """F21, F22."""
    service.outside.fraud_rules.before_answer = lambda: failpoints.arm(name, die)

    def die() -> None:
        if service.rows("SELECT 1 FROM saga_steps WHERE step = 'preauth'"):
            crash()

    payment_id = service.start()
    with pytest.raises(Crash):
        run_all(service)

    row = step(service, "preauth")
    assert row is not None
    assert (row["status"], responses(service)) == ("asked", [])
    assert service.payment(payment_id).psp_reference is None


def test_death_after_the_commit_leaves_the_response_and_what_followed_from_it(
    service: Service,
) -> None:
    """F23."""

    def die() -> None:
        if responses(service):
            crash()

    failpoints.arm("saga.after_commit", die)
    payment_id = service.start()
    with pytest.raises(Crash):
        run_all(service)

    row = step(service, "preauth")
    assert row is not None
    assert row["status"] == "waiting"
    assert service.payment(payment_id).psp_reference == PSP_REFERENCE


def test_every_answer_to_one_command_is_kept(service: Service) -> None:
    """F22: the repetition brings the same answer, which is one more response."""
    service.outside.psp.before_answer = lambda: failpoints.arm("saga.after_effect", crash)
    service.start()
    with pytest.raises(Crash):
        service.settle()
    failpoints.disarm_all()
    service.outside.psp.before_answer = lambda: None
    service.later(service.lease_seconds)

    [command] = [row for row in commands(service) if row["service_id"] == "psp"]
    assert [row["command_id"] for row in responses(service)] == [command["message_id"]]
    assert service.outside.psp.asked("authorise") == 2
