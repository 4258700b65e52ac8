"""What the database tells of how things stand, and what the leader leaves there."""

from server.storage import exported_metrics, gaps, jobs, readings, repos, viewers
from server.storage.database import rows, take_seconds, write_transaction
from tests.builders import NOW_MS, NOW_US, Stream, did, job_of, make_live, post, tid, track


def test_an_empty_database_has_readings(db):
    now = readings.read(NOW_US)
    assert (now.leader, now.event_ms, now.gaps, now.repos, now.viewers) == (None, None, {}, {}, 0)
    assert set(now.queue.values()) == {0}
    assert now.database_bytes > 0


def test_queue_gaps_and_viewers_are_counted(db, lease):
    viewers.welcome(did("viewer"), NOW_US - 2 * readings.DAY_US)
    viewers.welcome(did("guest"), NOW_US)
    track("alice", "bob", "carol")
    make_live("carol")
    jobs.fail(job_of("alice", 1), "down", NOW_US)
    assert readings.read(NOW_US).queue["newest_page", "failing"] == 1
    with write_transaction():
        gaps.open_for_all("relay.test", "no cursor", 0, NOW_MS, NOW_US - 5_000_000)
    Stream().say("bob", post(tid(1)))
    now = readings.read(NOW_US)
    assert now.leader is not None
    assert now.event_ms == NOW_MS
    assert (now.viewers, now.viewers_of_today) == (2, 1)
    # Only carol was not waited for when the hole came.
    assert now.queue["viewer_follows", "waiting"] == 2
    assert now.queue["newest_page", "waiting"] == 2
    assert now.queue["newest_of_many", "waiting"] == 1
    assert now.gaps["everybody"] == (1, NOW_US - 5_000_000)
    assert now.repos["pending"] == 5


def test_the_numbers_of_a_later_lead_are_not_overwritten(db):
    assert exported_metrics.load() is None
    exported_metrics.save("second", 2, NOW_US)
    exported_metrics.save("first, waking up late", 1, NOW_US + 1)
    assert exported_metrics.load() == ("second", NOW_US)
    exported_metrics.save("second, later", 2, NOW_US + 2)
    assert exported_metrics.load() == ("second, later", NOW_US + 2)


def test_time_in_the_database_is_measured_for_each_thread(db):
    take_seconds()
    assert take_seconds() == 0.0
    rows("SELECT count(*) FROM authors")
    assert 0 < take_seconds() < 5


def test_every_kind_of_job_has_a_name():
    kinds = {repos.VIEWER_FOLLOWS, repos.NEWEST_PAGE, repos.NEWEST_OF_MANY, repos.OLDER_PAGES}
    assert readings.PRIORITIES.keys() == kinds == set(range(max(kinds) + 1))
