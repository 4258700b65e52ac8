"""`explain`: each reason for which an item is, or is not, in a feed; and the words around it."""

import pytest

from feeds import FEEDS
from server.commands.verdict import Record, judge
from server.core.syntax import POST, REPOST, tid_to_int
from server.storage import follows, gaps, jobs, viewers
from server.storage.batch import Batch
from server.storage.database import write_transaction
from server.storage.ledger import Window
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    job_of,
    make_live,
    post,
    repost,
    tid,
    unfollow,
)

DAY_MS = 86_400_000
HORIZON = tid_to_int(tid(-8 * DAY_MS))
WINDOW = Window.at(NOW_US, 7, 30)

# Enough to tell one feed's rule from another's.
THREE = tuple(f for f in FEEDS if f.rkey in ("following", "everything", "posts-only"))

pytestmark = pytest.mark.usefixtures("db", "lease")


class World:
    """Viv follows ann and bob; both are complete down to a week ago."""

    def __init__(self, epoch):
        self.epoch = epoch
        viewers.welcome(did("viv"), NOW_US)
        self.stream = Stream(epoch)
        self.say("viv", follow(tid(-10), "ann"), follow(tid(-9), "bob"))
        make_live("viv", "ann", "bob", epoch=epoch, rev=1, horizon=HORIZON)
        self.stream.revs |= {"ann": 1, "bob": 1}

    def say(self, name, *changes):
        self.stream.say(name, *changes)

    def verdict(self, name, rkey, collection=POST, viewer="viv", feeds=THREE):
        return judge(did(viewer), Record(did(name), collection, rkey), feeds, WINDOW, NOW_US)

    def reason(self, *args, **kwargs):
        return self.verdict(*args, **kwargs).reason


@pytest.fixture
def world(lease):
    return World(lease.epoch)


def test_what_is_shown_has_its_exact_place_in_each_feed(world):
    for number in range(70):
        world.say("ann", post(tid(number), NOW_MS + number))
    world.say("bob", repost(tid(100), ("x", tid(1)), NOW_MS + 100))
    verdict = world.verdict("ann", tid(20))
    assert verdict.reason == "shown"
    assert {feed.feed: (feed.position, feed.page) for feed in verdict.feeds} == {
        "following": (51, 2),
        "everything": (51, 2),
        "posts-only": (50, 2),
    }
    assert verdict.followed_since_us == [NOW_US - 10_000]
    shown = world.verdict("bob", tid(100), REPOST)
    assert [(f.feed, f.position, f.filtered_by) for f in shown.feeds] == [
        ("following", 1, []),
        ("everything", 1, []),
        ("posts-only", None, ["reposts=False"]),
    ]


def test_a_feed_read_from_the_bottom_gives_no_place(world):
    world.say("ann", post(tid(1)))
    catch_up = tuple(feed for feed in FEEDS if feed.oldest_first)
    (found,) = world.verdict("ann", tid(1), feeds=catch_up).feeds
    assert (found.is_shown, found.position, found.page) == (True, None, None)


def test_an_own_post_is_shown_and_no_follow_is_needed(world):
    world.say("viv", post(tid(1)))
    verdict = world.verdict("viv", tid(1))
    assert (verdict.reason, verdict.is_own, verdict.followed_since_us) == ("shown", True, [])


def test_who_never_came_has_no_feed(world):
    assert world.reason("ann", tid(1), viewer="ann") == "no viewer"
    assert world.reason("ann", tid(1), viewer="nobody") == "no viewer"


def test_a_post_of_somebody_not_followed_says_so_and_who_reposted_it(world):
    assert world.reason("eve", tid(1)) == "not followed"
    world.say("bob", repost(tid(5), ("eve", tid(1))))
    verdict = world.verdict("eve", tid(1))
    assert verdict.reason == "not followed"
    assert verdict.reposted_by == [f"at://{did('bob')}/{REPOST}/{tid(5)}"]
    world.say("ann", post(tid(1)))
    world.say("viv", unfollow(tid(-10)))
    assert world.reason("ann", tid(1)) == "not followed"


def test_of_whom_more_follows_there_are_than_are_kept_that_is_said(world, monkeypatch):
    monkeypatch.setattr(follows, "MAX_FOLLOWS", 2)
    world.say("viv", follow(tid(-1), "eve"))
    assert world.reason("eve", tid(1)) == "follows cut"


def test_while_a_viewers_follows_are_not_fetched_nothing_is_said_of_them(world):
    viewers.welcome(did("wim"), NOW_US)
    assert world.reason("ann", tid(1), viewer="wim") == "follows unknown"


def test_a_reply_says_which_of_the_thread_is_followed(world):
    world.say("ann", post(tid(1), parent=("eve", tid(-5)), root=("joe", tid(-7))))
    verdict = world.verdict("ann", tid(1))
    by_feed = {feed.feed: (feed.is_shown, feed.filtered_by) for feed in verdict.feeds}
    assert by_feed == {
        "following": (False, ["replies=following"]),
        "everything": (True, []),
        "posts-only": (False, ["replies=none"]),
    }
    assert [(r.role, r.did, r.is_followed, r.is_there) for r in verdict.relatives] == [
        ("parent", did("eve"), False, None),
        ("root", did("joe"), False, None),
    ]
    only = tuple(feed for feed in FEEDS if feed.rkey == "following")
    assert world.reason("ann", tid(1), feeds=only) == "filtered"
    # Bob's reply to it hangs on ann, whom viv follows; the grandparent is eve.
    world.say("bob", post(tid(2), parent=("ann", tid(1)), root=("joe", tid(-7))))
    verdict = world.verdict("bob", tid(2), feeds=only)
    assert verdict.reason == "shown"
    assert [(r.role, r.did, r.is_followed) for r in verdict.relatives] == [
        ("parent", did("ann"), True),
        ("root", did("joe"), False),
        ("grandparent", did("eve"), False),
    ]
    # An orphan: what it hangs on is gone.
    world.say("ann", drop(tid(1)))
    verdict = world.verdict("bob", tid(2), feeds=only)
    assert verdict.reason == "filtered"
    assert (verdict.relatives[0].role, verdict.relatives[0].is_there) == ("parent", False)


def test_a_post_with_a_key_of_another_kind_is_gone_where_all_of_its_author_is_known(world):
    world.say("viv", follow(tid(-8), "joe"))
    make_live("joe", epoch=world.epoch)
    world.say("ann", post(tid(1), parent=("joe", "self")))
    only = tuple(feed for feed in FEEDS if feed.rkey == "following")
    verdict = world.verdict("ann", tid(1), feeds=only)
    assert verdict.reason == "filtered"
    assert [relative.is_there for relative in verdict.relatives] == [False]


def test_what_was_deleted_says_when(world):
    world.say("ann", post(tid(1)))
    world.say("ann", drop(tid(1)))
    verdict = world.verdict("ann", tid(1))
    assert (verdict.reason, verdict.deleted_us) == ("deleted", NOW_US)


def test_an_account_that_is_away_says_its_status(world):
    world.say("ann", post(tid(1)))
    world.stream.save(Batch(statuses={did("ann"): (False, "suspended")}))
    verdict = world.verdict("ann", tid(1))
    assert (verdict.reason, verdict.author.status) == ("inactive", "suspended")


def test_what_is_not_fetched_yet_says_what_is_in_the_way(world, lease):
    world.say("viv", follow(tid(-8), "cat"))
    assert world.reason("cat", tid(1)) == "not fetched"
    assert world.verdict("cat", tid(1)).shortfall.why == "pending"
    jobs.fail(job_of("cat", lease.epoch), "it hangs", NOW_US)
    assert world.verdict("cat", tid(1)).shortfall.error == "it hangs"
    with write_transaction():
        gaps.open_for_all("relay.test", "cursor outdated", 10, 20, NOW_US)
    verdict = world.verdict("ann", tid(1))
    assert (verdict.reason, verdict.shortfall.gap_reason) == ("not fetched", "cursor outdated")


def test_what_is_older_than_the_horizon_says_so(world):
    assert world.reason("ann", tid(-9 * DAY_MS)) == "beyond horizon"
    world.stream.save(Batch(), event_ms=NOW_MS)
    assert world.reason("ann", tid(-7 * DAY_MS)) == "unknown record"


def test_what_is_newer_than_the_stream_says_so(world):
    world.stream.save(Batch(), event_ms=NOW_MS)
    assert world.reason("ann", tid(5)) == "not heard yet"
    assert world.reason("ann", tid(-5)) == "unknown record"
    assert world.reason("ann", "self") == "unknown record"


def test_what_came_after_the_author_went_live_was_heard_and_the_rest_is_not_known(world):
    world.say("ann", post(tid(1), NOW_MS + 1), post(tid(2), NOW_MS - 1))
    assert world.verdict("ann", tid(1)).origin == "stream"
    assert world.verdict("ann", tid(2)).origin is None


def test_the_command_takes_handles_and_feeds_and_refuses_what_is_neither(world, gapless, db, names):
    for name in ("viv", "ann"):
        names.own(name, f"{name}.test")
    world.say("ann", post(tid(1), parent=("eve", tid(-5))))
    uri = f"at://ann.test/{POST}/{tid(1)}"
    done = gapless(db, "explain", "@viv.test", uri, **names.settings)
    assert done.status == 0, done.err
    for words in (
        "everything: shown, item 1, on page 1 of 30 each",
        "following: left out by replies=following",
        "followed: 2026-09-",
        f"parent: by {did('eve')}, not followed",
    ):
        assert words in done.out, done.out
    said = gapless(db, "explain", did("viv"), uri, "following", "--json", **names.settings).json()
    assert (said["reason"], said["uri"]) == ("filtered", f"at://{did('ann')}/{POST}/{tid(1)}")
    assert [feed["feed"] for feed in said["feeds"]] == ["following"]
    for words, complaint in (
        (("viv.test", uri, "nothing"), "no feed is called nothing"),
        (("viv.test", "https://bsky.app/x"), "is not the at:// URI of a post or a repost"),
        (("viv.test", f"at://ann.test/app.bsky.feed.like/{tid(1)}"), "a post or a repost"),
    ):
        done = gapless(db, "explain", *words, **names.settings)
        assert done.status == 2
        assert complaint in done.err


def test_how_far_the_stream_is_saved_is_said_also_before_it_began(lease, gapless, db):
    viewers.welcome(did("viv"), NOW_US)
    uri = f"at://{did('ann')}/{POST}/{tid(7)}"
    assert "nothing of the stream is saved yet" in gapless(db, "explain", did("viv"), uri).out
    Stream(lease.epoch).save(Batch(), event_ms=NOW_MS)
    assert "the stream is saved until 20" in gapless(db, "explain", did("viv"), uri).out
