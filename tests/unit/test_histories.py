"""Goal: whatever the PSP's story of a payment, in whatever order and however often it is told, the
funds end where a bookkeeper ends who heard it once and in order.

Method: stories as webhooks, shuffled and repeated, through the parser, the table of meanings and
the funds; against the books of ``tests.support.histories``, which know nothing of the code.
"""

from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.anomalies import anomalies
from app.domain.funds import Fact, Funds
from tests.support.builders import unsigned_webhook
from tests.support.histories import Item, Story
from webhooks.meanings import MEANINGS, fact_of
from webhooks.notifications import parse

quick = settings(deadline=None, derandomize=True, max_examples=120)

#: Seeded by hypothesis, so that stories go deep and every run tells the same ones.
RANDOMS = st.randoms(use_true_random=True)
SHUFFLES = 4


def facts_of(items: Iterable[Item]) -> list[Fact]:
    facts = []
    for item in items:
        [notification] = parse(unsigned_webhook(item))
        assert notification.event_date is not None
        meaning = MEANINGS[notification.event_code]
        at = notification.event_date
        fact = fact_of(notification, meaning, occurred_at=at, first_told_at=at)
        facts += [fact] if fact else []
    return facts


def sums(funds: Funds) -> dict[str, object]:
    return {
        "authorised": funds.authorised,
        "captured": funds.captured,
        "refunded": funds.refunded,
        "charged_back": funds.charged_back,
        "cancelled": funds.cancelled,
        "held": funds.held,
        "status": funds.status.value,
    }


@quick
@given(random=RANDOMS)
def test_funds_in_the_true_order_are_the_bookkeepers(random: Random) -> None:
    story = Story(random).told()

    funds = Funds.of(facts_of(story.items))

    assert sums(funds) == story.books.sums


@quick
@given(random=RANDOMS)
def test_funds_in_any_order_and_repetition_are_the_bookkeepers(random: Random) -> None:
    story = Story(random).told()
    facts = facts_of(story.items)

    for _shuffle in range(SHUFFLES):
        delivered = facts + random.choices(facts, k=3) if facts else []
        random.shuffle(delivered)

        assert sums(Funds.of(delivered)) == story.books.sums


@quick
@given(random=RANDOMS)
def test_sums_of_every_part_of_a_story_keep_their_bounds(random: Random) -> None:
    facts = facts_of(Story(random).told().items)
    random.shuffle(facts)

    for length in range(len(facts) + 1):
        funds = Funds.of(facts[:length])

        assert min(funds.authorised, funds.captured, funds.refunded, funds.charged_back) >= 0
        assert 0 <= funds.kept <= funds.captured
        for hold in funds.holds:
            assert min(hold.held, hold.cancelled) == 0
            if hold.total:
                whole = max(hold.authorised, hold.captured)
                assert hold.captured + hold.cancelled + hold.held == whole


@quick
@given(random=RANDOMS)
def test_nothing_ordinary_comes_to_light_as_an_anomaly(random: Random) -> None:
    story = Story(random, has_second=False, has_recaptures=False).told()

    found = {kind for kind, _amount in anomalies(Funds.of(facts_of(story.items)))}

    assert found <= {"OVER_REFUNDED"}  # refunded, and charged back all the same


def test_stories_reach_every_code_that_moves_money() -> None:
    told = {item["eventCode"] for seed in range(400) for item in Story(Random(seed)).told().items}

    moves_money = {code for code, meaning in MEANINGS.items() if meaning.on_success}
    assert moves_money - told == {"PENDING", "OFFER_CLOSED", "TECHNICAL_CANCEL"}
