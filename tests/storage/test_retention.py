"""What is let go for its age, and what that is said to leave."""

from server.storage import gaps, ledger, retention
from server.storage.database import execute, rows, value, write_transaction
from server.storage.rkeys import encode_rkeys
from tests.builders import (
    HOST,
    NOW_MS,
    NOW_US,
    Stream,
    make_live,
    number_of,
    post,
    repost,
    tid,
    track,
)

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


def test_what_healed_long_ago_is_struck_from_the_ledger_and_most_of_what_heals_all_the_time(
    db, monkeypatch
):
    monkeypatch.setattr(gaps, "KEPT_GAPS", 3)
    alice, loud = number_of("alice"), number_of("loud")
    with write_transaction():
        gaps.open_for_all(HOST, "an outage", 1, 2, NOW_US)
        for second in range(9):
            # As a PDS that sends #sync after #sync has it.
            gaps.open_for_authors([(loud, "sync")], HOST, 3, NOW_US)
            gaps.close_for_authors([loud], NOW_US + second)
        gaps.open_for_authors([(loud, "sync"), (alice, "sync")], HOST, 3, NOW_US)
        gaps.close_for_authors([alice], NOW_US)
    closed = "SELECT author_id, closed_us FROM gaps ORDER BY id"
    assert gaps.expire(NOW_US) == 6
    of_loud = [(loud, NOW_US + second) for second in (6, 7, 8)]
    assert rows(closed) == [(None, None), *of_loud, (alice, NOW_US), (loud, None)]
    assert gaps.expire(NOW_US + 8) == 3
    assert rows(closed) == [(None, None), of_loud[-1], (loud, None)]
