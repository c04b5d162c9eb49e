"""Thousands of payments at once, every word of trouble, processes that die all the time: by count.

Goal: promises 1 to 4 of the README hold for all payments together, under the faults F5, F8, F10,
F14, F18, F21, F22, F23, F27, F30 and F36. Method: a whole instance and a second worker; what was
acknowledged is held against the simulator's own books, payment by payment. The full number:

    .venv/bin/python -m tests.support.flows --payments 5000
"""

import pytest

from tests.support.flows import Report, as_text, run
from tests.support.trouble import CONTRADICTIONS, WORDS, Flow, draw

#: What this takes about a minute for on two cores.
PAYMENTS = 800
SEED = 1


@pytest.fixture(scope="module")
def report() -> Report:
    """One run; its figures show when a test fails."""
    report = run(PAYMENTS, seed=SEED)
    print(as_text(report))
    return report


def test_nothing_is_lost_and_nothing_doubled_while_processes_die(report: Report) -> None:
    assert report.problems == []


def test_every_kind_of_process_was_killed_and_webhooks_came_again(report: Report) -> None:
    assert set(report.kills) == {"worker", "second worker", "one web process", "all of web"}
    assert report.echoes[200] > 0


def test_every_word_was_asked_for(report: Report) -> None:
    assert report.ends.keys() == {"ordinary", *WORDS}
    assert report.ends["ordinary"] == {"fin": report.ends["ordinary"].total()}


def test_the_mix_is_the_same_every_time_and_holds_every_pair_of_words() -> None:
    flows = draw(PAYMENTS, seed=SEED)
    pairs = {flow.words for flow in flows if len(flow.words) == 2}

    assert flows == draw(PAYMENTS, seed=SEED)
    assert len({flow.reference for flow in flows}) == len(flows) == PAYMENTS
    assert len(pairs) == len(WORDS) * (len(WORDS) - 1) // 2 - len(CONTRADICTIONS)


@pytest.mark.parametrize(
    ("words", "capture", "ends"),
    [
        ("", "manual", {"fin"}),
        ("", "automatic", {"fin"}),
        ("DECLINED", "manual", {"declined"}),
        ("DECLINED, LOST WEBHOOK", "manual", {"declined"}),
        ("LOST WEBHOOK", "manual", {"compensated"}),
        ("LOST WEBHOOK, FALSE THEN TRUE", "manual", {"fin"}),
        ("LOST WEBHOOK, CANCEL FAILED", "manual", {"manual_review"}),
        ("FALSE THEN TRUE, FAIL-", "manual", {"compensated"}),
        ("CAPTURE FAILED", "manual", {"fin"}),
        ("CAPTURE FAILED", "automatic", {"fin", "compensated"}),
        ("CAPTURE FAILED, CANCEL FAILED", "automatic", {"fin", "manual_review"}),
        ("CANCEL FAILED", "automatic", {"fin"}),
        ("CANCEL FAILED, HANG-", "automatic", {"manual_review"}),
        ("FLAKY-, bounce@", "manual", {"fin"}),
        ("fraud@, LOST WEBHOOK", "automatic", {"declined"}),
    ],
)
def test_the_words_name_where_a_payment_may_end(words: str, capture: str, ends: set[str]) -> None:
    flow = Flow(
        reference="ORDER-1",
        words=frozenset(filter(None, words.split(", "))),
        amount_minor=12500,
        is_automatic=capture == "automatic",
    )

    assert flow.ends == ends
