"""Whole stories over HTTP, in any order and more than once, end in the bookkeeper's sums (F12)."""

from random import Random

import pytest

from tests.support.histories import Item, Story
from tests.support.service import Service

ORDERS = 3

#: How often the drain runs before the next delivery: a batch sees one webhook, or several.
DRAINED_AT_ONCE = 0.5


def shuffled(items: list[Item], random: Random) -> list[Item]:
    """Return the items in some order, and some of them twice."""
    places = items + random.choices(items, k=3) if items else []
    random.shuffle(places)
    return places


@pytest.mark.parametrize("order", range(ORDERS))
@pytest.mark.parametrize("seed", [5, 13, 21, 22, 28])
def test_any_order_of_a_story_ends_in_the_books_of_who_heard_it_in_order(
    service: Service, seed: int, order: int
) -> None:
    story = Story(Random(seed), has_second=seed % 2 == 0).told()
    payment_id = service.start()
    service.settle()

    random = Random(f"{seed}.{order}")
    for item in shuffled(story.items, random):
        service.deliver(item)
        if random.random() < DRAINED_AT_ONCE:
            service.drain()
    service.settle()

    [row] = service.rows(
        "SELECT authorised, captured, refunded, charged_back, cancelled, funds_status AS status"
        " FROM payments WHERE payment_id = :id",
        id=payment_id,
    )
    held = service.payment(payment_id).funds.held
    assert dict(row) | {"held": held} == story.books.sums
    assert service.work() == []
    assert service.discrepancies() == []
