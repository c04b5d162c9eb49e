"""Whole stories over HTTP, in any order and more than once, end in the bookkeeper's sums (F12).

The tellings of one statement keep their order, as in a queue of the provider's that sends the
earliest first; everything else comes as it likes.
"""

from random import Random

import pytest

from tests.support.builders import unsigned_webhook
from tests.support.histories import Item, Story
from tests.support.service import Service
from webhooks.notifications import parse

ORDERS = 3


def shuffled(items: list[Item], random: Random) -> list[Item]:
    """Return the items in some order, and some of them twice."""
    places = items + random.choices(items, k=3) if items else []
    random.shuffle(places)
    tellings: dict[object, list[Item]] = {}
    for item in sorted(places, key=lambda item: str(item["eventDate"])):
        tellings.setdefault(statement(item), []).append(item)
    return [tellings[statement(item)].pop(0) for item in places]


def statement(item: Item) -> object:
    [notification] = parse(unsigned_webhook(item))
    return notification.guid


@pytest.mark.parametrize("order", range(ORDERS))
@pytest.mark.parametrize("seed", [5, 13, 21, 22, 28])
def test_any_order_of_a_story_ends_in_the_books_of_who_heard_it_in_order(
    service: Service, seed: int, order: int
) -> None:
    story = Story(Random(seed), has_second=False).told()
    payment_id = service.start()
    service.settle()

    for item in shuffled(story.items, Random(f"{seed}.{order}")):
        service.deliver(item)
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
