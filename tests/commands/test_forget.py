"""`forget`: of a viewer who asks for it nothing is left that says they were here."""

from dataclasses import replace

import pytest

from server.core.feed import TimelineFilter
from server.core.projection import sort_key
from server.core.syntax import tid_to_int
from server.storage import outside_posts, pages, repos, viewers
from server.storage.authors import StoredIdentity, save_identity
from server.storage.database import current, is_sqlite, rows, value, write_transaction
from server.storage.forget import forget
from server.storage.jobs import Progress
from server.storage.page_rows import Page
from server.storage.pages import Listed, Opening
from server.storage.repos import tracked_since
from server.storage.timeline import timeline_page
from server.web.sightings import TOUCH_SECONDS, Sightings
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    job_of,
    make_live,
    number_of,
    post,
    tid,
    track,
    unfollow,
    write_alone,
)

# Where the account's number may still stand: its own DID, and the repo that is let go.
LEFT = {("authors", "id"), ("repos", "author_id")}
# And in what others wrote.
IN_REPLIES = {("feed_items", "subject_id"), ("feed_items", "root_id")}


@pytest.fixture
def world(db, lease):
    """Two viewers: viv follows ann and wim; wim follows ann. Both have written something."""
    for name in ("viv", "wim"):
        viewers.welcome(did(name), NOW_US)
        save_identity(did(name), f"{name}.test", "https://pds.test", "key", NOW_US)
    track("ann")
    stream = Stream(lease.epoch)
    stream.say("viv", follow(tid(0), "ann"), follow(tid(1), "wim"), follow(tid(2), "ann"))
    stream.say("viv", unfollow(tid(2)), post(tid(3)), post(tid(4)))
    stream.say("viv", drop(tid(4)))
    stream.say("wim", follow(tid(0), "ann"), post(tid(5)))
    make_live("viv", "wim", "ann", epoch=lease.epoch, rev=9)
    return db


def places(number):
    """Each column of the schema that holds this number, if it is one that holds accounts."""
    if is_sqlite():
        tables = [name for (name,) in rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    else:
        tables = current().get_tables()
    found = set()
    for table in tables:
        names = [column.name for column in current().get_columns(table)]
        for name in names:
            is_account = name in ("author_id", "viewer_id", "subject_id", "parent_id", "root_id")
            if is_account or (table, name) == ("authors", "id"):
                sql = f"SELECT 1 FROM {table} WHERE {name} = ? LIMIT 1"  # noqa: S608
                if value(sql, (number,)):
                    found.add((table, name))
    return found


def test_of_a_viewer_whom_nobody_follows_nothing_is_left(world, gapless):
    number = number_of("viv")
    assert ("follows", "viewer_id") in places(number)
    assert ("tombstones", "author_id") in places(number)
    done = gapless(world, "forget", did("viv"), "--json")
    assert done.status == 0, done.err
    assert done.json() == {
        "did": did("viv"),
        "was_viewer": True,
        "is_author": False,
        "follows": 2,
        "items": 1,
    }
    assert places(number) == LEFT
    sql = "SELECT handle, pds_url, signing_key, checked_us FROM authors WHERE id = ?"
    assert rows(sql, (number,)) == [(None, None, None, None)]
    assert rows("SELECT state, wants FROM repos WHERE author_id = ?", (number,)) == [
        (repos.LET_GO, repos.ITEMS)
    ]
    # The stream's reader hears of it.
    assert {repo.did: repo.wants for repo in tracked_since(0)}[did("viv")] == 0


def test_a_viewer_whom_somebody_follows_is_an_author_like_everybody(world, gapless, names):
    number = number_of("wim")
    names.own("wim", "wim.test")
    done = gapless(world, "forget", "wim.test", **names.settings)
    assert done.status == 0, done.err
    assert "stay in their feeds" in done.out
    assert viewers.find(did("wim")) is None
    assert value("SELECT count(*) FROM follows WHERE viewer_id = ?", (number,)) == 0
    assert value("SELECT count(*) FROM feed_items WHERE author_id = ?", (number,)) == 1
    assert value("SELECT wants FROM repos WHERE author_id = ?", (number,)) == repos.ITEMS
    assert viewers.find(did("viv")) is not None


@pytest.fixture
def thread(world, lease):
    """wim answers viv, who answered ann; wim follows ann, and nobody follows viv."""
    stream = Stream(lease.epoch)
    stream.revs = dict.fromkeys(("viv", "wim", "ann"), 9)
    stream.say("ann", post(tid(10)))
    stream.say("viv", *(post(tid(n), parent=("ann", tid(10))) for n in (11, 12)))
    stream.say("wim", post(tid(13), NOW_MS + 1, parent=("viv", tid(11)), root=("ann", tid(10))))
    stream.say("wim", post(tid(14), NOW_MS + 2, parent=("viv", tid(11)), root=("eve", tid(1))))
    stream.say("wim", post(tid(15), NOW_MS + 3, parent=("eve", tid(1)), root=("viv", tid(3))))
    return stream


def shown_to(name):
    page = timeline_page(number_of(name), TimelineFilter(replies="following"), None, 99, NOW_US)
    return [item.post_uri[-13:] for item in page.items]


def outside_posts_of(number):
    sql = "SELECT rkey, parent_id, newest_key FROM outside_posts WHERE author_id = ?"
    return sorted(rows(sql, (number,)))


def test_replies_that_hang_on_somebody_forgotten_stand_as_before(thread, world, gapless):
    before = shown_to("wim")
    assert tid(14) in before
    gapless(world, "forget", did("viv"))
    assert rows("SELECT 1 FROM feed_items WHERE author_id = ?", (number_of("viv"),)) == []
    assert shown_to("wim") == before


def test_of_the_posts_of_somebody_forgotten_only_those_are_known_that_replies_hang_on(
    thread, world, gapless
):
    number, newest = number_of("viv"), sort_key(NOW_MS + 2, 0)
    gapless(world, "forget", did("viv"))
    found = outside_posts_of(number)
    assert [(row[0], row[1]) for row in found] == [(tid_to_int(tid(11)), number_of("ann"))]
    # As long as that reply.
    assert found[0][2] == newest
    outside_posts.expire(newest)
    assert places(number) == {*LEFT, ("outside_posts", "author_id"), *IN_REPLIES}
    outside_posts.expire(newest + 1)
    assert places(number) == {*LEFT, *IN_REPLIES}


@pytest.mark.usefixtures("thread")
def test_a_reply_that_comes_meanwhile_finds_what_it_hangs_on(world, lease, monkeypatch):
    """What it hangs on was to be forgotten: nobody else's reply hung on it."""
    real_rows = outside_posts.rows

    def as_it_comes(sql, *parameters):
        found = real_rows(sql, *parameters)
        if "max(id)" in sql:
            stream = Stream(lease.epoch)
            stream.revs = {"wim": 12}
            stream.say("wim", post(tid(16), NOW_MS + 9, parent=("viv", tid(12))))
        return found

    monkeypatch.setattr(outside_posts, "rows", as_it_comes)
    forget(did("viv"))
    assert [row[0] for row in outside_posts_of(number_of("viv"))] == [
        tid_to_int(tid(11)),
        tid_to_int(tid(12)),
    ]
    assert tid(16) in shown_to("wim")


def test_nobody_is_forgotten_for_a_handle_that_they_only_claim(world, gapless, names):
    names.claim("wim", "wim.test")
    for handle in ("wim.test", "wim.example.com"):
        done = gapless(world, "forget", handle, **names.settings)
        assert done.status == 2
        assert "give the DID" in done.err
    # It is viv's now; our tables still have wim's claim.
    names.own("viv", "wim.test")
    done = gapless(world, "forget", "wim.test", **names.settings)
    assert done.out.startswith(did("viv"))
    assert viewers.find(did("wim")) is not None


def test_what_a_backfill_looked_up_meanwhile_is_not_remembered(world, lease):
    number = number_of("viv")
    with write_transaction():
        repos.reset([number, number_of("ann")], NOW_US)
    home = StoredIdentity(did("viv"), "viv.test", "https://pds.test", "key", NOW_US)
    job, other = job_of("viv", lease.epoch), job_of("ann", lease.epoch)
    forget(did("viv"))
    page = Page("app.bsky.feed.post", [], set(), None, None)
    for save, argument in (
        (pages.remember_homes, home),
        (pages.open_repos, Opening(job, 9, (), lambda _least: Progress(), home)),
        (pages.commit_pages, Listed(job, page, Progress(), 0, home)),
    ):
        write_alone(save, job, argument, lease.epoch)
    sql = "SELECT handle, pds_url, signing_key, checked_us FROM authors WHERE id = ?"
    assert rows(sql, (number,)) == [(None, None, None, None)]
    # Of a job that is out of date for another reason it is as good as ever.
    with write_transaction():
        repos.reset([other.author_id], NOW_US)
    write_alone(pages.remember_homes, other, replace(home, did=did("ann")), lease.epoch)
    assert rows(sql, (other.author_id,)) == [("viv.test", "https://pds.test", "key", NOW_US)]


def test_who_comes_back_is_a_new_viewer(world, gapless):
    gapless(world, "forget", did("viv"))
    viewers.welcome(did("viv"), NOW_US + 1)
    found = viewers.find(did("viv"))
    assert (found.number, found.first_us) == (number_of("viv"), NOW_US + 1)
    assert value("SELECT state FROM repos WHERE author_id = ?", (found.number,)) == repos.PENDING


def test_a_web_process_that_remembers_them_welcomes_them_anew(world, gapless):
    sightings = Sightings()
    sightings.see(did("viv"), NOW_US)
    gapless(world, "forget", did("viv"))
    later_us = NOW_US + (TOUCH_SECONDS + 1) * 1_000_000
    assert sightings.see(did("viv"), later_us).first_us == later_us
    assert viewers.find(did("viv")).first_us == later_us


def test_of_a_stranger_there_is_nothing_to_forget(world, gapless):
    done = gapless(world, "forget", did("nobody"))
    assert (done.status, "nothing is known" in done.err) == (2, True)
