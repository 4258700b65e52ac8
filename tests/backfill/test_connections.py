"""Whoever waits for a stranger's server holds no connection: there are fewer than askers."""

import time
from threading import Event as StopEvent

import pytest

from server.backfill.accounts import Accounts
from server.backfill.outside import OutsidePosts
from server.core.syntax import tid_to_int
from server.storage import outside_posts
from server.storage.authors import author_ids
from server.storage.batch import Batch
from server.storage.database import database, write_transaction
from tests.backfill.watching import stream_is_at

pytestmark = pytest.mark.usefixtures("postgresql")


@pytest.fixture
def asked(sources, monkeypatch):
    """Of each question so far, whether who asked it held a connection."""
    held, ask = [], sources.fetcher.get_json

    def get_json(*args, **kwargs):
        held.append(not database.is_closed())
        return ask(*args, **kwargs)

    monkeypatch.setattr(sources.fetcher, "get_json", get_json)
    return held


def test_of_those_who_look_into_what_was_said_of_accounts(alice, sources, asked):
    stream_is_at(sources.epoch, 0, Batch(statuses={alice.did: (False, "deleted")}))
    Accounts(sources, StopEvent()).run()
    # The directory, and then the PDS.
    assert asked == [False, False]


@pytest.mark.usefixtures("viewer")
def test_of_those_who_compare_repos(sources, asked, watch):
    watch(carries_chain=False).run()
    assert len(asked) >= 5
    assert not any(asked)


def test_of_those_who_look_posts_of_strangers_up(net, sources, asked):
    strange = net.create_account("stan").post("what a reply hangs on")
    number = author_ids([strange.uri.split("/")[2]]).popitem()[1]
    with write_transaction():
        outside_posts.want([(number, tid_to_int(strange.rkey), 1)])
    (post,) = outside_posts.due(time.time_ns() // 1000, 9)
    OutsidePosts(sources, StopEvent())._look_up(post)
    assert asked == [False, False]
