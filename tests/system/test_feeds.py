"""What a viewer sees, from the relay's socket to the app's page, on both databases."""

import threading
from collections import Counter

from simnet import Write
from tests.system.waiting import wait_until

POST = "app.bsky.feed.post"
# From the event on the relay to the page of an app; about half a second when nobody else works.
SOON_SECONDS = 10.0


def test_history_and_what_happens_now_stand_in_one_feed(place):
    alice, bob = place.net.create_account("alice1"), place.net.create_account("bob1", pds=1)
    old = [alice.post(f"old {number}", emit=False) for number in range(5)]
    bob.repost(old[0], emit=False)
    viewer = place.viewer("viewer1", alice, bob)
    viewer.post("my own, from before", emit=False)
    place.reader.settle(viewer)
    answer = bob.post("an answer", reply_to=old[1])
    alice.repost(answer)
    alice.post("a quote", quote=answer)
    viewer.post("my own")
    bob.repost(old[2])
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 12


def test_more_than_a_page_of_history_is_complete(place):
    alice = place.net.create_account("alice2")
    writes = [Write("create", POST, None, _post(alice, number)) for number in range(250)]
    alice.apply(writes, emit=False)
    viewer = place.viewer("viewer2", alice)
    assert place.reader.settle(viewer) == 250


def _post(account, number):
    at = f"2026-11-{1 + number % 20:02d}T10:00:{number % 60:02d}.{number:03d}Z"
    return {"text": f"{account.handle} {number}", "createdAt": at}


def test_a_follow_brings_history_and_an_unfollow_takes_it_out(place):
    alice, bob = place.net.create_account("alice3"), place.net.create_account("bob3", pds=1)
    for number in range(3):
        alice.post(f"a{number}")
        bob.post(f"b{number}", emit=False)
    viewer = place.viewer("viewer3", alice)
    assert place.reader.settle(viewer) == 3
    viewer.follow(bob)
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 6
    bob.post("after the follow")
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 7
    viewer.follow(bob)
    viewer.unfollow(alice)
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 4
    alice.post("to somebody else")
    viewer.unfollow(bob)
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 0
    viewer.follow(alice)
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 4


def test_one_of_two_follow_records_may_go_and_the_follow_stays(place):
    alice = place.net.create_account("alice4")
    alice.post("hello")
    viewer = place.viewer("viewer4")
    first = viewer.follow(alice)
    viewer.follow(alice)
    assert place.reader.settle(viewer) == 1
    viewer.delete(first)
    marker = viewer.post("the event after the delete")
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 2
    assert marker.uri in place.reader.read(viewer).keys


def test_deletes_unreposts_and_edits_show_and_an_edit_keeps_its_place(place):
    alice, bob = place.net.create_account("alice5"), place.net.create_account("bob5")
    posts = [alice.post(f"a{number}") for number in range(4)]
    viewer = place.viewer("viewer5", alice, bob)
    reposts = [bob.repost(post) for post in posts[:2]]
    assert place.reader.settle(viewer) == 6
    before = place.reader.read(viewer).keys
    edited = alice.edit(posts[1], text="changed")
    alice.delete(posts[3])
    bob.delete(reposts[0])
    again = alice.apply(
        [
            Write("delete", POST, posts[0].rkey),
            Write("create", POST, posts[0].rkey, _post(alice, 7)),
        ]
    )
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 4
    after = place.reader.read(viewer).keys
    assert edited.uri in after
    assert again[1].uri == after[-1]
    kept = [key for key in before if key in after and key != posts[0].uri]
    assert [key for key in after if key != posts[0].uri] == kept


def test_a_deactivated_account_goes_and_comes_back_whole(place):
    alice, bob = place.net.create_account("alice6"), place.net.create_account("bob6", pds=1)
    for number in range(3):
        alice.post(f"a{number}")
        bob.post(f"b{number}")
    viewer = place.viewer("viewer6", alice, bob)
    assert place.reader.settle(viewer) == 6
    for leave in (alice.deactivate, alice.takedown, alice.suspend):
        leave()
        assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 3
        alice.activate()
        alice.post("back again")
        assert place.reader.settle(viewer, seconds=SOON_SECONDS) > 6


def test_a_deleted_account_is_gone_and_nobody_else(place):
    alice, bob = place.net.create_account("alice7"), place.net.create_account("bob7")
    post = alice.post("soon gone")
    bob.repost(post)
    bob.post("stays")
    gone_before = place.net.create_account("gone7")
    viewer = place.viewer("viewer7", alice, bob, gone_before)
    gone_before.delete_account(tombstone=True)
    assert place.reader.settle(viewer, database=place.database) == 3
    alice.delete_account()
    assert place.reader.settle(viewer, seconds=SOON_SECONDS, database=place.database) == 1


def test_an_account_that_moves_to_another_host_loses_nothing(place):
    alice = place.net.create_account("alice8")
    for number in range(3):
        alice.post(f"a{number}")
    viewer = place.viewer("viewer8", alice)
    assert place.reader.settle(viewer) == 3
    alice.migrate(1)
    alice.post("from the new host")
    alice.delete_at(0)
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 4
    # Whoever comes to follow now must find the new host.
    late = place.viewer("late8", alice)
    assert place.reader.settle(late) == 4
    alice.emit_sync()
    alice.post("and on")
    assert place.reader.settle(viewer, late, seconds=SOON_SECONDS, database=place.database) == 10


def test_pages_join_down_to_the_end_while_posts_arrive(place):
    people = [place.net.create_account(f"busy{n}", pds=n % 2) for n in range(3)]
    for number in range(120):
        people[number % 3].post(f"before {number}")
    viewer = place.viewer("viewer9", *people)
    assert place.reader.settle(viewer) == 120
    before = place.reader.read(viewer).keys
    stop = threading.Event()

    def go_on() -> None:
        number = 0
        while not stop.wait(0.005):
            people[number % 3].post(f"meanwhile {number}")
            number += 1

    poster = threading.Thread(target=go_on, name="poster")
    poster.start()
    try:
        wait_until(
            lambda: place.reader.read(viewer, 100).keys[0] != before[0], SOON_SECONDS, "a new post"
        )
        for limit in (1, 7, 30):
            reading = place.reader.read(viewer, limit)
            assert max(Counter(reading.skeleton_keys).values()) == 1
            assert [key for key in reading.keys if key in set(before)] == before
            assert reading.keys[0] != before[0]
    finally:
        stop.set()
        poster.join()
    place.reader.settle(viewer, database=place.database)


def test_records_of_one_millisecond_are_each_shown_once_on_any_page(place):
    alice = place.net.create_account("alice10")
    record = {"text": "the same", "createdAt": "2026-11-20T10:00:00.000Z"}
    alice.apply([Write("create", POST, None, record) for _ in range(40)], emit=False)
    alice.apply([Write("create", POST, None, record) for _ in range(20)])
    viewer = place.viewer("viewer10", alice)
    assert place.reader.settle(viewer) == 60
    alice.apply([Write("create", POST, None, record) for _ in range(5)])
    assert place.reader.settle(viewer, seconds=SOON_SECONDS) == 65
    keys = set(place.reader.read(viewer).keys)
    for limit in (1, 9, 64, 65, 66):
        reading = place.reader.read(viewer, limit)
        assert len(reading.keys) == len(keys)
        assert set(reading.keys) == keys
        assert reading.pages == -(-65 // limit)


def test_records_that_no_appview_shows_are_passed_over(place):
    alice = place.net.create_account("alice11")
    alice.post("good")
    alice.post("undated", created_at="yesterday")
    viewer = place.viewer("viewer11", alice)
    wait_until(lambda: len(place.reader.read(viewer).keys) == 1, SOON_SECONDS, "the good one")
    alice.put("app.bsky.feed.post", "self", {"text": 7, "createdAt": "2026-11-20T10:00:00Z"})
    alice.put("app.bsky.feed.repost", "odd_key~1", {"subject": "x", "createdAt": "now"})
    last = alice.post("good as well", rkey="an:odd.key_~1")
    wait_until(
        lambda: place.reader.read(viewer).keys[:1] == [last.uri], SOON_SECONDS, "the last one"
    )
    assert len(place.reader.read(viewer).skeleton_keys) == 2
    alice.delete(last)
    wait_until(lambda: len(place.reader.read(viewer).keys) == 1, SOON_SECONDS, "it is gone")


def test_each_feed_filters_and_nobody_sees_the_feed_of_another(place):
    alice, bob = place.net.create_account("alice12"), place.net.create_account("bob12")
    post = alice.post("a post")
    reply = bob.post("a reply to a stranger", reply_to=place.net.create_account("x12").post("x"))
    repost = bob.repost(post)
    viewer, other = place.viewer("viewer12", alice, bob), place.viewer("other12", bob)
    place.reader.settle(viewer, other)
    shown = {
        rkey: set(place.reader.read(viewer, rkey=rkey).keys)
        for rkey in ("everything", "following", "posts-only")
    }
    assert shown["everything"] == {post.uri, reply.uri, repost.uri}
    assert shown["following"] == {post.uri, repost.uri}
    assert shown["posts-only"] == {post.uri}
    assert set(place.reader.read(other).keys) == {reply.uri, repost.uri}
