"""What is let go for its age, and what that is said to leave."""

from server.storage import ledger, retention
from server.storage.database import execute, value
from server.storage.rkeys import encode_rkeys
from tests.builders import NOW_MS, NOW_US, Stream, make_live, number_of, post, repost, tid, track

DAY_MS = 86_400_000
HORIZON = "SELECT horizon_rkey FROM repos"


def test_posts_of_today_with_dates_of_long_ago_make_nobody_known_only_since_today(db, lease):
    """As whoever brings them along from elsewhere writes them."""
    number, stream, old_ms = number_of("alice"), Stream(lease.epoch), NOW_MS - 999 * DAY_MS
    track("alice")
    make_live("alice", epoch=lease.epoch)
    stream.say("alice", *(post(tid(-n), NOW_MS - n * 1000) for n in range(150)))
    # The PDS has not come to the time of this key.
    stream.say("alice", post(tid(-200), old_ms), post(tid(999 * DAY_MS), old_ms + 1))
    # And on a repost nobody's replies hang.
    stream.say("alice", repost(tid(-201), ("bob", tid(0)), old_ms + 2))
    execute("UPDATE repos SET rev = ?", tuple(encode_rkeys([tid(0)]).values()))
    assert retention.trim(number, NOW_MS - 30 * DAY_MS) == 2
    assert value(HORIZON) == 0
    assert ledger.of_author(number, ledger.Window.at(NOW_US, 7, 30)) is None
    assert retention.trim(number, NOW_MS) == 51
    assert value(HORIZON) == encode_rkeys([tid(-100)])[tid(-100)]
