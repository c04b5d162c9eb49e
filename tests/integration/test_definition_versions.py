"""A new release meets sagas of the old definition: each ends under the one it began under (F34)."""

from collections.abc import Iterator

import pytest

from app.sagas.definition import Definitions
from tests.support.builders import an_item
from tests.support.runners import run_all
from tests.support.sagas import DEFINITIONS
from tests.support.service import Service, at_once

OLD, NEW = DEFINITIONS.version(1), DEFINITIONS.version(2)


@pytest.fixture
def old_release(service: Service) -> Iterator[Service]:
    """The same service in a process of the release before: it knows version 1 only."""
    other = service.restarted()
    vars(other.container)["definitions"] = Definitions(OLD)
    yield other
    other.container.close()


def authorise(service: Service, *references: str) -> None:
    service.receive(
        *(an_item(psp_reference=f"PSP{one}", merchant_reference=one) for one in references)
    )


def versions(service: Service) -> dict[str, int]:
    """Tell under which version each payment's saga runs."""
    rows = service.rows(
        "SELECT merchant_reference, definition_version FROM saga_instances"
        " JOIN payments USING (payment_id)"
    )
    return {row["merchant_reference"]: row["definition_version"] for row in rows}


def asked_for_rules(service: Service) -> list[str]:
    """Tell whose commands went to the rules that version 1 does not know."""
    rows = service.rows(
        "SELECT merchant_reference FROM commands"
        " JOIN saga_instances USING (saga_id) JOIN payments USING (payment_id)"
        " WHERE service_id = 'fraud_rules' ORDER BY 1"
    )
    return [row["merchant_reference"] for row in rows]


def test_sagas_of_both_versions_end_side_by_side_each_under_its_own(
    service: Service, old_release: Service
) -> None:
    just_begun = old_release.start(merchant_reference="JUST-BEGUN")
    waiting = old_release.start(merchant_reference="WAITING")
    assert old_release.container.runner.run_next(waiting)
    new = service.start(merchant_reference="NEW")

    service.settle()
    authorise(service, "JUST-BEGUN", "WAITING", "NEW")

    assert versions(service) == {"JUST-BEGUN": 1, "WAITING": 1, "NEW": 2}
    assert {service.payment(one).state.value for one in (just_begun, waiting, new)} == {"fin"}
    assert asked_for_rules(service) == ["NEW"]
    assert service.outside.fraud.asked("check") == 3


def test_an_old_saga_is_undone_by_its_own_definition(
    service: Service, old_release: Service
) -> None:
    service.outside.booking.says_yes = False
    payment_id = old_release.start()
    old_release.settle()
    service.receive(an_item())
    service.receive(
        an_item("CANCELLATION", psp_reference="VOID1", original_reference="8816178914079738")
    )

    assert service.payment(payment_id).state == "compensated"
    assert asked_for_rules(service) == []


def test_a_saga_of_a_newer_version_is_left_to_workers_that_know_it(
    service: Service, old_release: Service
) -> None:
    newer = service.start(merchant_reference="NEWER")
    old = old_release.start(merchant_reference="OLD")

    run_all(old_release)

    assert old_release.payment(old).state == "preauth"
    assert old_release.payment(newer).state == "fraud_check"
    [saga] = service.rows("SELECT owner, version FROM saga_instances WHERE definition_version = 2")
    assert (saga["owner"], saga["version"]) == (None, 1)
    service.settle()
    assert service.payment(newer).state == "preauth"


def test_a_webhook_that_an_old_release_applies_moves_a_newer_saga(
    service: Service, old_release: Service
) -> None:
    """The drain needs no definition: while a release is rolled out either may apply it."""
    payment_id = service.start()
    service.settle()
    old_release.deliver(an_item())
    old_release.settle()
    before = service.payment(payment_id).state

    service.settle()

    assert (before, service.payment(payment_id).state) == ("booking_confirmation", "fin")


def test_both_releases_at_once_ask_everything_once(service: Service, old_release: Service) -> None:
    references = [f"ORDER-{number}" for number in range(8)]
    starters = [old_release, service]
    ids = [
        starters[number % 2].start(merchant_reference=one) for number, one in enumerate(references)
    ]
    both = [lambda: run_all(service), lambda: run_all(old_release)] * 2
    at_once(both)
    service.deliver(
        *(an_item(psp_reference=f"PSP{one}", merchant_reference=one) for one in references)
    )
    service.drain()
    at_once(both)

    assert {service.payment(payment_id).state.value for payment_id in ids} == {"fin"}
    assert asked_for_rules(service) == references[1::2]
    parties = service.outside
    asked = [len(one.calls) for one in (parties.fraud, parties.psp, parties.booking, parties.mail)]
    assert asked == [8] * 4
