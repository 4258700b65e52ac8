"""What a page out of memory reads of few who write much."""

from server.storage import recent_items, viewers
from server.storage.page_sql import LOWEST
from server.storage.prepared import prepared_rows
from server.storage.recent_items import RecentItems
from server.storage.recent_page import recent_page
from server.storage.timeline import timeline_page
from tests.builders import NOW_MS, NOW_US, Stream, did, follow, new_epoch, post, tid, track
from tests.storage.test_timeline import BY_RKEY
from tests.storage.timeline_world import VIEWER


def test_of_few_who_write_much_no_more_is_read_than_a_page_can_show(db, monkeypatch):
    epoch, recent, feed = new_epoch(), RecentItems(50_000), BY_RKEY["everything"].filter
    stream, viewer = Stream(epoch), viewers.welcome(did(VIEWER), NOW_US)
    track("ann", "ben")
    stream.say(VIEWER, follow(tid(1), "ann"), follow(tid(2), "ben"))
    for name in ("ann", "ben"):
        stream.say(name, *(post(tid(n), NOW_MS - 1000 * n) for n in range(2_000)))
    asked = []

    def note(sql, values):
        asked.append((sql, values))
        return prepared_rows(sql, values)

    monkeypatch.setattr(recent_items, "prepared_rows", note)
    assert recent_page(recent, viewer, feed, 9) == timeline_page(viewer, feed, None, 9, NOW_US)
    ((sql, values),) = [one for one in asked if "i.id >= a.floor" in one[0]]
    assert values["floor"] == LOWEST
    # What is left to be put in order: ten of each, and not all.
    gathered = sql.partition(", n AS MATERIALIZED")[0]
    counted = f"{gathered} SELECT count(*) FROM f"  # noqa: S608  its own words
    assert prepared_rows(counted, values) == [(20,)]
