"""Trimming: old items go, in slices so small that nobody waits for them.

A post goes when its key is old as well. One that was made lately and is dated long ago, as whoever
brings posts along from elsewhere dates them, would leave a mark (`horizon_rkey`) that says of all
that was made before it that it may have been let go.
"""

from server.core.projection import KEY_TIE_BITS
from server.storage import repos
from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, rows
from server.storage.many_rows import execute_in
from server.storage.newest import renew_newest
from server.storage.opening import patient_transaction
from server.storage.records import IS_REPOST, is_repost

# However old they are, so that a quiet author's feed does not run dry.
KEPT_ITEMS = 100
# Of one author in one transaction.
SLICE_ITEMS = 1_000


def authors_after(author_id: int, limit: int) -> list[int]:
    """The next authors whose items may be trimmed: complete ones, never one under backfill."""
    found = rows(
        "SELECT author_id FROM repos WHERE state = ? AND author_id > ? ORDER BY author_id LIMIT ?",
        (repos.LIVE, author_id, limit),
    )
    return [int(number) for (number,) in found]


def trim(author_id: int, before_ms: int) -> int:
    """Delete the author's items from before then, but for the newest KEPT_ITEMS; how many."""
    trimmed = 0
    while gone := _trim_slice(author_id, before_ms):
        trimmed += gone
        if gone < SLICE_ITEMS:
            break
    return trimmed


@retry_conflicts
def _trim_slice(author_id: int, before_ms: int) -> int:
    with patient_transaction():
        repo = repos.load_repos([author_id]).get(author_id)
        if repo is None or repo.state != repos.LIVE:
            return 0
        kept = rows(
            "SELECT id FROM feed_items WHERE author_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?",
            (author_id, KEPT_ITEMS - 1),
        )
        if not kept:
            return 0
        below = min(kept[0][0], before_ms << KEY_TIE_BITS)
        young = before_ms * 1000 << 10
        gone = rows(
            # A key of after the last commit is nobody's clock's.
            "SELECT i.id, i.rkey, i.flags FROM feed_items i WHERE i.author_id = ? AND i.id < ?"
            f" AND ({IS_REPOST.format(i='i')} OR i.rkey < ? OR i.rkey > ?)"
            " ORDER BY i.id LIMIT ?",
            (author_id, below, young, repo.rev, SLICE_ITEMS),
        )
        if not gone:
            # Mostly. To name the author as touched would have web processes read them anew.
            return 0
        execute_in("DELETE FROM feed_items WHERE id", [row[0] for row in gone])
        # The newest picture may be an old item.
        renew_newest([author_id])
        posts = [rkey for _, rkey, flags in gone if not is_repost(flags) and 0 < rkey < young]
        if posts:
            # What is missing from here down is missing because we let it go.
            execute(
                "UPDATE repos SET horizon_rkey = ? WHERE author_id = ? AND horizon_rkey < ?",
                (max(posts), author_id, max(posts)),
            )
    return len(gone)
