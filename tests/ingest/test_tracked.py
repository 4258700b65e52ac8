"""Which changes of tracked repos concern us."""

import pytest

from server.ingest.tracked import TrackedSet
from server.storage import viewers
from tests.builders import NOW_US, did, drop, follow, post, tid, track, unfollow

pytestmark = pytest.mark.usefixtures("db")


def test_follows_concern_us_when_a_viewer_is_at_one_end():
    viewers.welcome(did("viewer"), NOW_US)
    track("ann", "ben")
    tracked = TrackedSet()
    tracked.refresh()
    assert tracked.concerns(did("viewer"), follow(tid(1), "anybody"))
    assert tracked.concerns(did("ann"), follow(tid(1), "viewer"))
    assert not tracked.concerns(did("ann"), follow(tid(1), "ben"))
    assert not tracked.concerns(did("ann"), follow(tid(1), "anybody"))
    # Whom a deleted follow named is not known here.
    for change in (unfollow(tid(1)), post(tid(1)), drop(tid(1))):
        assert tracked.concerns(did("ann"), change)
