"""Threads that want the same identity at once."""

import threading

import pytest

from server.core.errors import FetchFailed, NotFound
from server.identity.cache import IdentityCache
from server.identity.did import Identity
from server.storage.authors import StoredIdentity
from tests.identity.builders import numbered
from tests.system.waiting import wait_until


class SlowDirectory:
    """Answers when it is told to."""

    def __init__(self, answer):
        self.answer, self.asked = answer, 0
        self.is_asked, self.go_on = threading.Event(), threading.Event()

    def resolve(self, did, deadline_s):
        self.asked += 1
        self.is_asked.set()
        assert self.go_on.wait(5)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ask_from_threads(cache, did, count):
    outcomes = []

    def ask():
        try:
            outcomes.append(cache.get(did))
        except FetchFailed as error:
            outcomes.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, outcomes


@pytest.mark.parametrize("is_found", [True, False])
def test_threads_that_want_the_same_account_share_one_lookup(store, clock, is_found):
    did = numbered(1)
    answer = Identity(did, None, None, None) if is_found else NotFound("no such account", "x")
    slow = SlowDirectory(answer)
    cache = IdentityCache(slow, store, clock)
    threads, outcomes = ask_from_threads(cache, did, 8)
    assert slow.is_asked.wait(5)
    slow.go_on.set()
    for thread in threads:
        thread.join(5)
    assert slow.asked == 1
    assert len(outcomes) == 8
    if is_found:
        assert outcomes == [answer] * 8
    else:
        assert {(type(error), error.name) for error in outcomes} == {(NotFound, "x")}
        assert len({id(error) for error in outcomes}) == 8


def test_viewers_do_not_wait_for_a_lookup_that_another_thread_makes(store, clock):
    did = numbered(1)
    slow = SlowDirectory(Identity(did, "new.example.com", None, None))
    cache = IdentityCache(slow, store, clock)
    store.rows[did] = StoredIdentity(did, "old.example.com", None, None, clock())
    clock.pass_s(3601)
    threads, outcomes = ask_from_threads(cache, did, 1)
    assert slow.is_asked.wait(5)
    assert cache.get(did).handle == "old.example.com"
    slow.go_on.set()
    threads[0].join(5)
    assert [found.handle for found in outcomes] == ["new.example.com"]
    assert cache.get(did).handle == "new.example.com"


def test_a_doubt_that_comes_up_during_a_lookup_is_kept(store, clock):
    did = numbered(1)
    slow = SlowDirectory(Identity(did, None, None, None))
    cache = IdentityCache(slow, store, clock)
    store.rows[did] = StoredIdentity(did, None, None, None, clock())
    clock.pass_s(3601)
    threads, _ = ask_from_threads(cache, did, 1)
    assert slow.is_asked.wait(5)
    clock.pass_s(1)
    cache.forget(did)
    slow.go_on.set()
    threads[0].join(5)
    clock.pass_s(61)
    cache.get(did)
    assert slow.asked == 2


def test_a_directory_that_is_slow_holds_few_threads(store, clock):
    slow = SlowDirectory(Identity(numbered(1), None, None, None))
    cache = IdentityCache(slow, store, clock, max_waiting=2)
    threads, outcomes = ask_from_threads(cache, numbered(1), 6)
    for number in range(2, 6):
        threads += ask_from_threads(cache, numbered(number), 1)[0]
    wait_until(lambda: len(outcomes) >= 4, 5, "the others were refused at once")
    assert slow.asked <= 2
    slow.go_on.set()
    for thread in threads:
        thread.join(5)
    refused = [one for one in outcomes if isinstance(one, FetchFailed)]
    assert [str(one) for one in refused] == ["too many look-ups of identities, try again soon"] * 4
