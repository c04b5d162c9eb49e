"""Group commit: batches form by themselves, and an error reaches exactly those it belongs to.

F42, promise 1: the queue and the wait are bounded, and who is refused is never acknowledged.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.errors import StoreUnavailable
from webhooks import group_commit
from webhooks.group_commit import GroupCommit


class Store:
    """A store that remembers its batches, and that a test can hold, break or poison."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.told: list[str] = []
        self.stalled = threading.Event()
        self.may_go_on = threading.Event()
        self.has_begun = threading.Event()
        self.may_go_on.set()
        self.fails_with: Callable[[Sequence[str]], BaseException | None] = lambda _entries: None

    def flush(self, entries: Sequence[str]) -> None:
        self.has_begun.set()
        assert self.may_go_on.wait(10)
        failure = self.fails_with(entries)
        if failure is not None:
            raise failure
        self.batches.append(list(entries))

    def commits(self, *, batch_max: int = 100) -> GroupCommit[str]:
        return GroupCommit(
            self.flush, afterwards=self.told.extend, on_stall=self.stalled.set, batch_max=batch_max
        )


def hanging(
    store: Store, commits: GroupCommit[str], pool: ThreadPoolExecutor, entry: str
) -> "Future[None]":
    """Let the entry's flush hang until the store may go on."""
    store.may_go_on.clear()
    future = pool.submit(commits.store, entry)
    assert store.has_begun.wait(10)
    return future


def queued_behind_the_first(
    store: Store, commits: GroupCommit[str], pool: ThreadPoolExecutor, entries: Sequence[str]
) -> list["Future[None]"]:
    """Let the first entry's flush hang, and the others queue up in order."""
    futures = [hanging(store, commits, pool, entries[0])]
    for place, entry in enumerate(entries[1:], 1):
        futures.append(pool.submit(commits.store, entry))
        while len(commits._waiting) < place:  # noqa: SLF001  # the queue has no other sign
            threading.Event().wait(0.001)
    return futures


def waiting_behind_the_first(
    store: Store, commits: GroupCommit[str], pool: ThreadPoolExecutor, entries: Sequence[str]
) -> list["Future[None]"]:
    """Let the first entry's flush hang, the others queue up in order, and then all go on."""
    futures = queued_behind_the_first(store, commits, pool, entries)
    store.may_go_on.set()
    return futures


def test_a_lone_entry_is_stored_at_once() -> None:
    store = Store()

    store.commits().store("a")

    assert (store.batches, store.told) == ([["a"]], ["a"])


def test_whatever_waits_is_stored_together_in_the_order_of_arrival() -> None:
    store = Store()
    with ThreadPoolExecutor(8) as pool:
        for future in waiting_behind_the_first(store, store.commits(), pool, "abcde"):
            future.result(10)

    assert store.batches == [["a"], ["b", "c", "d", "e"]]
    assert sorted(store.told) == list("abcde")


def test_a_batch_is_bounded_and_the_rest_follows() -> None:
    store = Store()
    with ThreadPoolExecutor(8) as pool:
        for future in waiting_behind_the_first(store, store.commits(batch_max=2), pool, "abcdef"):
            future.result(10)

    assert store.batches == [["a"], ["b", "c"], ["d", "e"], ["f"]]


def test_an_outage_reaches_every_waiter_of_its_batch_and_nobody_else() -> None:
    store = Store()
    store.fails_with = lambda entries: StoreUnavailable() if "b" in entries else None
    with ThreadPoolExecutor(8) as pool:
        first, *others = waiting_behind_the_first(store, store.commits(), pool, "abc")

        first.result(10)
        for other in others:
            with pytest.raises(StoreUnavailable):
                other.result(10)
    assert (store.batches, store.told) == ([["a"]], ["a"])


def test_an_entry_that_can_not_be_stored_does_not_take_its_neighbours_along() -> None:
    store = Store()
    store.fails_with = lambda entries: ValueError("poison") if "c" in entries else None
    with ThreadPoolExecutor(8) as pool:
        futures = waiting_behind_the_first(store, store.commits(), pool, "abcd")

        with pytest.raises(ValueError, match="poison"):
            futures[2].result(10)
        for place in (0, 1, 3):
            futures[place].result(10)
    assert store.batches == [["a"], ["b"], ["d"]]


def test_a_leader_that_dies_leaves_nobody_believing_that_all_is_stored() -> None:
    class Death(BaseException):
        pass

    store = Store()
    store.fails_with = lambda entries: Death() if "b" in entries else None
    commits = store.commits()
    with ThreadPoolExecutor(8) as pool:
        first, leader, follower = waiting_behind_the_first(store, commits, pool, "abc")

        first.result(10)
        with pytest.raises(Death):
            leader.result(10)
        with pytest.raises(StoreUnavailable):
            follower.result(10)
    commits.store("d")
    assert store.batches == [["a"], ["d"]]


def test_many_callers_lose_nothing_and_double_nothing() -> None:
    store = Store()
    commits = store.commits(batch_max=7)
    entries = [str(number) for number in range(500)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(commits.store, entries))

    stored = [entry for batch in store.batches for entry in batch]
    assert sorted(stored) == sorted(entries)
    assert all(len(batch) <= 7 for batch in store.batches)


def test_one_entry_more_than_may_wait_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAITING_MAX", 2)
    store = Store()
    commits = store.commits()
    with ThreadPoolExecutor(8) as pool:
        futures = queued_behind_the_first(store, commits, pool, "abc")
        with pytest.raises(StoreUnavailable, match="too many"):
            commits.store("d")
        store.may_go_on.set()
        for future in futures:
            future.result(10)

    assert store.batches == [["a"], ["b", "c"]]
    assert not store.stalled.is_set()


def test_whoever_is_refused_leaves_the_place_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAITING_MAX", 1)
    store = Store()
    commits = store.commits()

    for entry in "abc":
        commits.store(entry)

    assert store.batches == [["a"], ["b"], ["c"]]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
def test_one_who_waits_in_vain_is_refused_and_ends_the_flush_that_hangs() -> None:
    store = Store()
    store.fails_with = lambda _entries: StoreUnavailable() if store.stalled.is_set() else None
    commits = store.commits()
    with ThreadPoolExecutor(8) as pool:
        leader = hanging(store, commits, pool, "a")
        with pytest.raises(StoreUnavailable, match="too long"):
            commits.store("b")
        assert store.stalled.is_set()
        store.may_go_on.set()

        with pytest.raises(StoreUnavailable):
            leader.result(10)
    assert (store.batches, store.told) == ([], [])


@pytest.mark.usefixtures("impatient")
def test_what_was_given_up_while_it_waited_is_never_stored() -> None:
    store = Store()
    commits = store.commits()
    with ThreadPoolExecutor(8) as pool:
        leader = hanging(store, commits, pool, "a")
        with pytest.raises(StoreUnavailable):
            commits.store("b")
        store.may_go_on.set()
        leader.result(10)
    commits.store("c")

    assert store.batches == [["a"], ["c"]]


@pytest.mark.usefixtures("impatient")
def test_after_a_stall_the_next_entries_are_stored_as_ever() -> None:
    store = Store()
    commits = store.commits()
    with ThreadPoolExecutor(8) as pool:
        leader = hanging(store, commits, pool, "a")
        for entry in "bc":
            with pytest.raises(StoreUnavailable):
                commits.store(entry)
        store.may_go_on.set()
        leader.result(10)

    for entry in "bcd":
        commits.store(entry)
    assert store.batches == [["a"], ["b"], ["c"], ["d"]]


def test_nobody_who_is_served_in_time_calls_for_a_stall() -> None:
    store = Store()
    with ThreadPoolExecutor(8) as pool:
        for future in waiting_behind_the_first(store, store.commits(), pool, "abcde"):
            future.result(10)

    assert not store.stalled.is_set()
