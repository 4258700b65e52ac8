"""Follow records: how many of one viewer are taken, and who is told when there are more."""

import pytest

from server.storage import follows, ledger, repos
from server.storage.database import rows
from server.storage.ledger import Window
from tests.builders import NOW_US, Stream, did, follow, make_live, number_of, tid, track, unfollow

WINDOW = Window.at(NOW_US, 7, 30)


@pytest.fixture
def stream(db, lease, monkeypatch):
    """Viv and Will, whose repos are complete; of each, three follows are taken."""
    monkeypatch.setattr(follows, "MAX_FOLLOWS", 3)
    track("viv", "will", wants=repos.ITEMS | repos.FOLLOWS)
    make_live("viv", "will", epoch=lease.epoch)
    return Stream(lease.epoch)


def followed(name):
    found = rows(
        "SELECT a.did FROM follows f JOIN authors a ON a.id = f.subject_id WHERE f.viewer_id = ?"
        " ORDER BY f.rkey",
        (number_of(name),),
    )
    return [who for (who,) in found]


def told(name):
    return ledger.of_viewer(number_of(name), WINDOW, 9)


def test_who_follows_without_end_keeps_the_first_and_takes_no_more(stream, caplog):
    stream.say("viv", *(follow(tid(n), f"a{n}") for n in range(2)))
    assert not follows.are_cut(number_of("viv"))
    for start in (2, 6):
        stream.say("viv", *(follow(tid(n), f"a{n}") for n in range(start, start + 4)))
    stream.say("will", follow(tid(1), "a9"))
    assert followed("viv") == [did("a0"), did("a1"), did("a2")]
    assert followed("will") == [did("a9")]
    # Nobody is fetched for what is not taken.
    assert len(rows("SELECT 1 FROM repos")) == 6
    assert len([line for line in caplog.messages if "follows cut" in line]) == 1


def test_a_record_that_is_here_may_change_and_go_whatever_is_refused(stream):
    stream.say("viv", *(follow(tid(n), f"a{n}") for n in range(4)))
    stream.say("viv", follow(tid(1), "other"), follow(tid(7), "refused"))
    assert followed("viv") == [did("a0"), did("other"), did("a2")]
    stream.say("viv", unfollow(tid(0)), follow(tid(8), "taken"))
    assert followed("viv") == [did("other"), did("a2"), did("taken")]


def test_whose_follows_are_cut_is_told_so_for_as_long_as_they_may_be(stream):
    stream.say("viv", *(follow(tid(n), f"a{n}") for n in range(4)))
    stream.say("will", *(follow(tid(n), f"a{n}") for n in range(3)))
    make_live("a0", "a1", "a2")
    # With one fewer there is room, but who was refused is not here.
    stream.say("viv", unfollow(tid(0)))
    answer = told("viv")
    assert (answer.authors, answer.complete, answer.counts) == (3, 2, {"follows cut": 1})
    assert [(one.did, one.why) for one in answer.shortfalls] == [(did("viv"), "follows cut")]
    assert told("will").complete == 4
    # A viewer's follows are theirs: to others, what she posts is as complete as ever.
    stream.say("will", unfollow(tid(0)), follow(tid(9), "viv"))
    assert told("will").counts == {}
    assert ledger.of_everybody(WINDOW, 9).counts == {}
