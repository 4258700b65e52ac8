"""The main job: somebody opens our feeds in the official app and sees all that others did."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.devnet.client import Account, Network, Reply, post_record, timestamp
from tests.devnet.reading import feed_page, texts, wait_for, whole_feed, whole_timeline
from tests.devnet.reply_rule import shows_in_following
from tests.devnet.service import Service

pytestmark = pytest.mark.devnet

EVERYTHING, FOLLOWING, POSTS_ONLY = "everything", "following", "posts-only"


@pytest.fixture
def shown(shared_service: Service) -> Callable[..., list[str]]:
    """The texts of a viewer's whole feed, and a wait until they are what they should be."""

    def shown(viewer: Account, wanted: list[str], rkey: str = EVERYTHING) -> list[str]:
        viewer.network.settle()
        wait_for(lambda: texts(whole_feed(viewer, shared_service, rkey)), wanted, shared_service)
        return wanted

    return shown


def test_feed_shows_what_was_there_before_and_what_comes_after(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann, ben = (network.account(name) for name in ("me", "ann", "ben"))
    stranger = network.account("stranger")
    me.follow(ann)
    me.follow(ben)
    theirs = stranger.post("by a stranger")
    ann.post("before by ann")
    ben.repost(theirs)
    me.post("before by me")
    before = ["before by me", "by a stranger <- ben", "before by ann"]
    shown(me, before)

    ben.post("after by ben")
    stranger.post("never shown")
    ann.repost(theirs)
    me.post("after by me")
    after = ["after by me", "by a stranger <- ann", "after by ben", *before]
    shown(me, after)
    shown(me, after, FOLLOWING)
    shown(me, [text for text in after if "<-" not in text], POSTS_ONLY)
    assert texts(whole_timeline(me)) == after
    shown(stranger, ["never shown", "by a stranger"])


def test_follow_brings_history_and_unfollow_takes_it_out(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann, ben = (network.account(name) for name in ("me", "ann", "ben"))
    follow = me.follow(ann)
    ann.post("a1")
    ben.post("b1")
    ann.post("a2")
    shown(me, ["a2", "a1"])
    later = me.follow(ben)
    shown(me, ["a2", "b1", "a1"])
    again = me.follow(ben, again=True)
    me.delete(later)
    ben.post("b2")
    shown(me, ["b2", "a2", "b1", "a1"])
    me.delete(follow)
    shown(me, ["b2", "b1"])
    me.delete(again)
    shown(me, [])


def test_what_is_taken_back_goes(network: Network, shown: Callable[..., list[str]]) -> None:
    me, ann, ben = (network.account(name) for name in ("me", "ann", "ben"))
    me.follow(ann)
    theirs = ben.post("by ben")
    first, second = ann.post("first"), ann.post("second")
    repost = ann.repost(theirs)
    ann.repost(second)
    shown(me, ["second <- ann", "by ben <- ann", "second", "first"])
    ann.delete(first)
    shown(me, ["second <- ann", "by ben <- ann", "second"])
    ann.delete(repost)
    shown(me, ["second <- ann", "second"])
    ann.delete(second)
    shown(me, [])
    # A repost of something of which only its author can say that it is gone.
    ann.repost(theirs)
    shown(me, ["by ben <- ann"])
    ben.delete(theirs)
    shown(me, [])


def test_inactive_account_is_hidden_and_comes_back_but_a_deleted_one_does_not(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann, ben = (network.account(name) for name in ("me", "ann", "ben"))
    me.follow(ann)
    me.follow(ben)
    hers = ann.post("by ann")
    ben.repost(hers)
    ben.post("by ben")
    everything = ["by ben", "by ann <- ben", "by ann"]
    shown(me, everything)
    ann.deactivate()
    shown(me, ["by ben"])
    ann.activate()
    shown(me, everything)
    ann.post("back")
    shown(me, ["back", *everything])
    network.delete_account(ann)
    shown(me, ["by ben"])


def test_replies_show_as_in_the_official_following(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann, ben = (network.account(name) for name in ("me", "ann", "ben"))
    stranger = network.account("stranger")
    me.follow(ann)
    me.follow(ben)
    theirs = stranger.post("stranger's")
    root = ben.post("root")
    ann.post("to stranger", reply_to=Reply.to(theirs))
    between = ann.post("to ben", reply_to=Reply.to(root))
    ann.post("to herself under ben", reply_to=Reply.to(between, root))
    answer = stranger.post("stranger to ben", reply_to=Reply.to(root))
    ann.post("to stranger under ben", reply_to=Reply.to(answer, root))
    own = ann.post("ann's")
    ann.post("to herself", reply_to=Reply.to(own))
    following = [
        "to herself",
        "ann's",
        "to stranger under ben",
        "to herself under ben",
        "to ben",
        "root",
    ]
    shown(me, [*following[:5], "to stranger", "root"])
    shown(me, following, FOLLOWING)
    shown(me, ["ann's", "root"], POSTS_ONLY)
    ben.delete(root)
    shown(me, ["to herself", "ann's"], FOLLOWING)


def test_thread_that_begins_with_no_post_is_an_orphan(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann = network.account("me"), network.account("ann")
    me.follow(ann)
    own = ann.post("ann's")
    ann.post("to herself, under a repost", reply_to=Reply.to(own, ann.repost(own)))
    shown(me, ["to herself, under a repost", "ann's <- ann", "ann's"])
    shown(me, ["ann's <- ann", "ann's"], FOLLOWING)
    assert official_following(me) == ["ann's <- ann", "ann's"]


def test_inactive_grandparent_is_no_reason_to_show_a_reply(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann, ben = (network.account(name) for name in ("me", "ann", "ben"))
    one, two = network.account("stranger"), network.account("stranger")
    me.follow(ann)
    me.follow(ben)
    root = one.post("root")
    grandparent = ben.post("to root", reply_to=Reply.to(root))
    parent = two.post("to ben", reply_to=Reply.to(grandparent, root))
    ann.post("among strangers but for ben", reply_to=Reply.to(parent, root))
    ann.post("only among strangers", reply_to=Reply.to(root))
    shown(me, ["among strangers but for ben"], FOLLOWING)
    assert official_following(me) == ["among strangers but for ben"]
    ben.deactivate()
    shown(me, [], FOLLOWING)
    assert official_following(me) == []
    ben.activate()
    shown(me, ["among strangers but for ben"], FOLLOWING)


def official_following(viewer: Account) -> list[str]:
    """What the Following tab of the official app keeps of the official timeline."""
    items = whole_timeline(viewer)
    return texts(item for item in items if shows_in_following(item.view, viewer.did))


def test_edit_never_lifts_a_post_and_keeps_its_reposts(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann = network.account("me"), network.account("ann")
    me.follow(ann)
    created_at = timestamp(-60)
    post = ann.create(post_record("first", created_at=created_at))
    ann.post("second")
    ann.repost(post)
    shown(me, ["first <- ann", "second", "first"])
    ann.put(post.rkey, post_record("edited", created_at=created_at))
    shown(me, ["edited <- ann", "second", "edited"])
    # The official timeline would now show it at the top, as if it were new.
    ann.put(post.rkey, post_record("edited with a new date"))
    shown(me, ["edited with a new date <- ann", "second", "edited with a new date"])
    ann.put(post.rkey, post_record("sunk", created_at=timestamp(-3600)))
    shown(me, ["sunk <- ann", "second", "sunk"])


def test_dates_of_the_author_sink_an_item_but_never_lift_it(
    network: Network, shown: Callable[..., list[str]]
) -> None:
    me, ann = network.account("me"), network.account("ann")
    me.follow(ann)
    shown(me, [])
    ann.create(post_record("from tomorrow", created_at=timestamp(86_400)))
    ann.post("now")
    ann.create(post_record("from yesterday", created_at=timestamp(-86_400)))
    shown(me, ["now", "from tomorrow", "from yesterday"])
    assert texts(whole_timeline(me)) == ["now", "from tomorrow", "from yesterday"]


def test_new_posts_and_deletes_show_within_seconds_also_in_the_probe_of_one(
    network: Network, shared_service: Service, shown: Callable[..., list[str]]
) -> None:
    me, ann = network.account("me"), network.account("ann")
    me.follow(ann)
    shown(me, [])
    for number in range(5):
        post = ann.post(f"post {number}")
        network.settle()
        # The app asks for the newest one every minute, to know whether there is anything new.
        wait_for(
            lambda: texts(feed_page(me, shared_service, EVERYTHING, limit=1).items),
            [f"post {number}"],
            shared_service,
            seconds=5.0,
        )
    ann.delete(post)
    shown(me, ["post 3", "post 2", "post 1", "post 0"])
