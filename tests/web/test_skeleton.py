"""getFeedSkeleton by its wire: parameters as the reference server reads them, cursors, errors."""

import threading
from urllib.parse import quote

import pytest

from tests.web.conftest import SKELETON

ARABIC_TEN = quote("\u0661\u0660")


def feed(site, rkey="everything"):
    return "feed=" + quote(site.reader.uri(rkey), safe="")


def count(answer):
    assert answer.status == 200, answer.body
    return len(answer.json()["feed"])


def test_a_page_has_the_exact_shape(site):
    author = site.net.account("author")
    # Not in one millisecond with its repost: those may stand in any order.
    post = author.post("to be reposted", created_at=site.net.clock() - 500_000)
    repost = site.viewer.repost(post)
    site.reader.settle(site.viewer)
    answer = site.skeleton(f"{feed(site)}&limit=2")
    body = answer.json()
    assert body.keys() == {"feed", "cursor"}
    assert body["feed"] == [
        {
            "post": post.uri,
            "reason": {
                "$type": "app.bsky.feed.defs#skeletonReasonRepost",
                "repost": repost.uri,
            },
        },
        {"post": post.uri},
    ]
    assert isinstance(body["cursor"], str)
    assert "private" in answer.headers["cache-control"]
    site.viewer.delete(repost)
    author.delete(post)
    site.reader.settle(site.viewer)


def test_the_last_page_has_no_cursor(site):
    assert "cursor" not in site.skeleton(f"{feed(site)}&limit=100").json()
    first = site.skeleton(f"{feed(site)}&limit=60").json()
    assert len(first["feed"]) == 60
    assert "cursor" not in first
    assert "cursor" in site.skeleton(f"{feed(site)}&limit=59").json()


@pytest.mark.parametrize(
    ("extra", "items"),
    [
        ("", 50),
        ("&limit=", 50),
        ("&limit=1", 1),
        ("&limit=100", 60),
        ("&limit=007", 7),
        ("&cursor=", 50),
        ("&unknown=1&unknown=2&limit=3", 3),
        ("&cursor=1-9223372036854775807&limit=60", 60),
        ("&cursor=1-0", 0),
    ],
)
def test_sound_parameters_are_taken(site, extra, items):
    assert count(site.skeleton(feed(site) + extra)) == items


@pytest.mark.attack("parameters")
@pytest.mark.parametrize(
    "extra",
    [
        "&limit=0",
        "&limit=101",
        "&limit=-1",
        "&limit=abc",
        "&limit=1.5",
        "&limit=%2B5",
        "&limit=%205",
        "&limit=5%20",
        "&limit=+5",
        "&limit=1e1",
        "&limit=1_0",
        "&limit=0x10",
        f"&limit={ARABIC_TEN}",
        "&limit=5%00",
        "&limit=5%0A",
        "&limit=" + "9" * 5000,
        "&limit=5&limit=5",
        "&limit=5&limit=6",
        "&limit=5&limit=",
        "&feed=",
        "&cursor=1-5&cursor=1-5",
        "&cursor=garbage",
        "&cursor=5",
        "&cursor=1-",
        "&cursor=1--5",
        "&cursor=2-5",
        "&cursor=1-5%20",
        "&cursor=%201-5",
        "&cursor=1-5%0A",
        "&cursor=1-%00",
        "&cursor=1-5.0",
        "&cursor=1-1e9",
        f"&cursor=1-{ARABIC_TEN}",
        "&cursor=1-9223372036854775808",
        "&cursor=1-99999999999999999999",
        "&cursor=" + "9" * 5000,
        "&cursor=1-" + "9" * 5000,
        "&cursor=%FF%FE",
        "&cursor=1-5'%20OR%201=1",
    ],
)
def test_unsound_parameters_are_refused(site, extra):
    answer = site.skeleton(feed(site) + extra)
    assert answer.error() == (400, "InvalidRequest")
    # What was sent is not echoed.
    assert b"9999" not in answer.body


def test_only_our_feeds_by_their_exact_uri(site):
    publisher, did = site.reader.publisher, site.reader.publisher.did
    unknown = [
        f"at://{did}/app.bsky.feed.generator/nothing",
        f"at://{did}/app.bsky.feed.generator/EVERYTHING",
        f"at://{did}/app.bsky.feed.generator/everything/",
        f"at://{did}/app.bsky.feed.generator/everything\n",
        f" at://{did}/app.bsky.feed.generator/everything",
        f"at://{did}/app.bsky.feed.post/everything",
        f"at://{publisher.handle}/app.bsky.feed.generator/everything",
        f"at://{site.viewer.did}/app.bsky.feed.generator/everything",
        f"{did}/app.bsky.feed.generator/everything",
        "at://" + "x" * 3000,
        "\x00",
        "everything",
    ]
    for uri in unknown:
        answer = site.skeleton("feed=" + quote(uri, safe=""))
        assert answer.error() == (400, "UnknownFeed"), uri
    for query in ("", "feed=", "limit=5", f"{feed(site)}&{feed(site)}"):
        assert site.skeleton(query).error() == (400, "InvalidRequest"), query


def test_parameters_are_looked_at_before_the_token(site):
    assert site.get(f"{SKELETON}?limit=5").error() == (400, "InvalidRequest")


def test_each_viewer_gets_their_own_feed_also_at_the_same_time(site):
    people = [site.net.create_account(f"someone{number}") for number in range(6)]
    posts = {person.did: person.post("mine").uri for person in people}
    for person in people:
        site.reader.settle(person)
    seen = {person.did: set() for person in people}
    stranger = site.net.create_account("stranger")
    problems = []

    def read(person):
        for _ in range(15):
            answer = site.skeleton(feed(site), person)
            if answer.status != 200:
                problems.append(answer)
            seen[person.did] |= {item["post"] for item in answer.json().get("feed", [])}

    threads = [threading.Thread(target=read, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert seen == {did: {uri} for did, uri in posts.items()}
    assert count(site.skeleton(feed(site), stranger)) == 0


def test_a_cursor_of_another_viewer_shows_nothing_of_theirs(site):
    cursor = site.skeleton(f"{feed(site)}&limit=5").json()["cursor"]
    nosy = site.net.create_account("nosy")
    assert count(site.skeleton(f"{feed(site)}&cursor={cursor}", nosy)) == 0


def test_a_follow_of_oneself_doubles_nothing(site):
    loner = site.net.create_account("loner")
    loner.follow(loner, emit=False)
    loner.post("echo")
    assert site.reader.settle(loner) == 1
    assert count(site.skeleton(feed(site), loner)) == 1
