"""`forget`: of a viewer who asks for it nothing is left that says they were here."""

import pytest

from server.storage import repos, viewers
from server.storage.authors import save_identity
from server.storage.database import current, is_sqlite, rows, value
from server.storage.repos import tracked_since
from server.web.sightings import TOUCH_SECONDS, Sightings
from tests.builders import (
    NOW_US,
    Stream,
    did,
    drop,
    follow,
    make_live,
    number_of,
    post,
    tid,
    track,
    unfollow,
)

# Where the account's number may still stand: its own DID, and the repo that is let go.
LEFT = {("authors", "id"), ("repos", "author_id")}


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
