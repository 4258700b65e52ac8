"""The tracked set in memory is what the database says, however it is read."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.ingest.tracked import TrackedSet
from server.storage import repos, viewers
from server.storage.database import DatabaseError, execute, rows, write_transaction
from tests.builders import NOW_US, did, drop, follow, number_of, post, tid, track, unfollow, wipe

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.by_hand]
NAMES = [f"author{number}" for number in range(12)]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(repos, "TRACKED_PAGE", 3)


def said_by_the_database():
    return dict(
        rows(
            "SELECT a.did, r.wants FROM repos r JOIN authors a ON a.id = r.author_id"
            " WHERE r.state <> ?",
            (repos.LET_GO,),
        )
    )


def let_go(name):
    with write_transaction():
        execute("UPDATE counters SET value = value + 1 WHERE name = 'tracked'")
        execute(
            "UPDATE repos SET state = ?, tracked_version = (SELECT value FROM counters)"
            " WHERE author_id = ?",
            (repos.LET_GO, number_of(name)),
        )


def reset_everybody():
    with write_transaction():
        repos.reset_all(NOW_US)


deeds = st.lists(
    st.one_of(
        st.tuples(st.just("track"), st.lists(st.sampled_from(NAMES), min_size=1)),
        st.tuples(st.just("let go"), st.sampled_from(NAMES)),
        st.tuples(st.just("reset"), st.none()),
        st.tuples(st.just("refresh"), st.none()),
    ),
    max_size=12,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deeds)
def test_whatever_changes_in_whatever_order_the_set_is_exact(done):
    wipe()
    tracked = TrackedSet()
    for what, who in [*done, ("refresh", None)]:
        match what:
            case "track":
                track(*who)
            case "let go":
                let_go(who)
            case "reset":
                reset_everybody()
            case _:
                tracked.refresh()
                assert tracked.wants == said_by_the_database()


def test_repos_that_share_a_version_are_all_read():
    track(*NAMES)
    tracked = TrackedSet()
    tracked.refresh()
    assert len(tracked.wants) == len(NAMES) > repos.TRACKED_PAGE


def test_a_refresh_that_fails_in_the_middle_is_made_good_by_the_next(monkeypatch):
    track(*NAMES)
    tracked, pages, read = TrackedSet(), [], repos.rows

    def fail_second(*args):
        pages.append(args)
        if len(pages) == 2:
            raise DatabaseError("gone")
        return read(*args)

    monkeypatch.setattr(repos, "rows", fail_second)
    with pytest.raises(DatabaseError):
        tracked.refresh()
    assert 0 < len(tracked.wants) < len(NAMES)
    tracked.refresh()
    assert set(tracked.wants) == {did(name) for name in NAMES}


def test_follows_concern_us_when_a_viewer_is_at_one_end():
    viewers.welcome(did("viewer"), NOW_US)
    track("ann", "ben")
    tracked = TrackedSet()
    tracked.refresh()
    assert tracked.concerns(did("viewer"), follow(tid(1), "anybody"))
    assert tracked.concerns(did("ann"), follow(tid(1), "viewer"))
    assert not tracked.concerns(did("ann"), follow(tid(1), "ben"))
    assert not tracked.concerns(did("ann"), follow(tid(1), "anybody"))
    # Whom an edited one named before, nobody here knows.
    assert tracked.concerns(did("ann"), follow(tid(1), "anybody"), is_edit=True)
    # Whom a deleted follow named is not known here.
    for change in (unfollow(tid(1)), post(tid(1)), drop(tid(1))):
        assert tracked.concerns(did("ann"), change)
