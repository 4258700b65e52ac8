"""Looking up who follows a viewer back: thirty a question, bounded, undisturbed by failures."""

import threading
import time

import pytest

from server.backfill import mutuals
from server.backfill.appview import MAX_OTHERS, followers_among
from server.backfill.mutuals import Mutuals
from server.core.errors import FetchFailed
from server.storage import follow_backs, repos, viewers
from server.storage.authors import author_ids
from server.storage.database import execute, rows
from server.storage.many_rows import insert_rows

FOLLOWED = 2 * MAX_OTHERS + 5

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.by_hand]


def now_us():
    return time.time_ns() // 1000


@pytest.fixture
def vera(net, lease):
    """An account that follows FOLLOWED others, every third of whom follows back."""
    account = net.create_account("vera")
    others = [net.create_account(f"o{number}", emit=False) for number in range(FOLLOWED)]
    for index, other in enumerate(others):
        account.follow(other, emit=False)
        if index % 3 == 0:
            other.follow(account, emit=False)
    number = viewers.welcome(account.did, now_us())
    subjects = author_ids([other.did for other in others]).values()
    insert_rows(
        "INSERT INTO follows (viewer_id, rkey, subject_id)",
        [(number, index, subject) for index, subject in enumerate(subjects)],
    )
    execute("UPDATE repos SET state = ? WHERE author_id = ?", (repos.PARTIAL, number))
    assert follow_backs.want(number, now_us())
    return account


def take_turn(fetcher, appview_url):
    """One turn of the viewer who is due; when they are due again, in seconds from now."""
    began_us = now_us()
    worker = Mutuals(fetcher, appview_url, threading.Event())
    number, did = follow_backs.due(began_us)
    again_us = worker._take_turn(number, did)
    follow_backs.done(number, again_us, now_us())
    return (again_us - began_us) / 1e6


def told():
    """DIDs of those who follow back, and how many were asked about."""
    found = rows("SELECT a.did, b.rkey FROM follow_backs b JOIN authors a ON a.id = b.author_id")
    return {did for did, rkey in found if rkey is not None}, len(found)


def truth(net, account):
    return {one.did for one in net.accounts() if account.did in one.follows()}


def test_everybody_followed_is_asked_about_once(net, sources, vera):
    pause_s = take_turn(sources.fetcher, net.relationships.url)
    assert told() == (truth(net, vera), FOLLOWED)
    assert len(truth(net, vera)) == FOLLOWED // 3 + 1
    assert net.relationships.asked == {vera.did: FOLLOWED}
    assert pause_s > 80_000
    execute("UPDATE viewers SET mutuals_due_us = 0")
    take_turn(sources.fetcher, net.relationships.url)
    assert net.relationships.asked == {vera.did: FOLLOWED}


def test_a_turn_is_bounded_and_the_next_one_goes_on(net, sources, vera, monkeypatch):
    monkeypatch.setattr(mutuals, "QUESTIONS_A_TURN", 2)
    assert take_turn(sources.fetcher, net.relationships.url) < 60
    assert told()[1] == 2 * MAX_OTHERS
    take_turn(sources.fetcher, net.relationships.url)
    assert told() == (truth(net, vera), FOLLOWED)


def test_an_appview_that_fails_is_asked_again_later_and_nobody_waits_for_it(net, sources, vera):
    net.faults.arm("http-500", where={"host": "appview"})
    assert 2 < take_turn(sources.fetcher, net.relationships.url) < 60
    assert net.faults.fired["http-500"] == 1
    assert told() == (set(), 0)
    assert follow_backs.are_tried(viewers.find(vera.did).number)
    execute("UPDATE viewers SET mutuals_due_us = 0")
    take_turn(sources.fetcher, net.relationships.url)
    assert told() == (truth(net, vera), FOLLOWED)


def test_without_an_appview_nobody_is_asked(net, sources, vera):
    assert take_turn(sources.fetcher, None) > 80_000
    assert net.relationships.asked == {}
    assert follow_backs.are_tried(viewers.find(vera.did).number)


class Saying:
    """A fetcher that brings this."""

    def __init__(self, answer):
        self.answer = answer

    def get_json(self, *_args, **_options):
        return self.answer


ANN, BEN = "did:plc:" + "a" * 24, "did:plc:" + "b" * 24


def relationship(other, followed_by):
    return {"relationships": [{"did": other, "followedBy": followed_by}]}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"relationships": {}},
        relationship(ANN, f"at://{BEN}/app.bsky.graph.follow/self"),
        relationship(ANN, f"at://{ANN}/app.bsky.feed.post/self"),
        relationship(ANN, f"at://{ANN}/app.bsky.graph.follow/"),
        relationship(ANN, f"at://{ANN}/app.bsky.graph.follow/a/b"),
        relationship(ANN, 5),
    ],
)
def test_an_answer_of_another_form_is_a_failure(answer):
    with pytest.raises(FetchFailed):
        followers_among(Saying(answer), "https://x", BEN, [ANN])


def test_only_those_who_were_asked_about_count():
    answer = relationship(BEN, f"at://{BEN}/app.bsky.graph.follow/self")
    answer["relationships"] += [None, {"actor": ANN, "notFound": True}, {"did": 5}]
    assert followers_among(Saying(answer), "https://x", BEN, [ANN]) == {}
