"""Posts of people whom nobody here follows, that replies of people we follow hang on.

Following's rule for replies asks whether the parent and the root are still there, and whom the
parent replies to. For authors whom we follow, our own rows tell; the others' posts are looked up
once; so are posts of authors whom we follow from before what is fetched of them. What happens to
them later is not noticed: nobody here follows their repos. What was found is kept as long as the
newest reply that hangs on it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from server.core.projection import sort_key
from server.storage import records, repos
from server.storage.conflicts import retry_conflicts
from server.storage.crash_points import crash_point
from server.storage.database import execute, rows, step_at_the_end, write_transaction
from server.storage.many_rows import (
    delete_rows,
    insert_rows,
    rows_by_key,
    rows_in,
    update_rows,
)
from server.storage.records import IS_POST, Key
from server.storage.touched import touch

# So long a look-up that failed is put off at most.
LONGEST_DELAY_US = 3600 * 1_000_000

# Items of one author whose replies are gone through again.
LOOKED_AT = 1_000

WANTED, THERE, MISSING, UNKNOWN = 0, 1, 2, 3

# What is known of the post already stands.
_RAISE = (
    "ON CONFLICT (author_id, rkey) DO UPDATE SET newest_key = excluded.newest_key"
    " WHERE outside_posts.newest_key < excluded.newest_key"
)


@dataclass(frozen=True, slots=True)
class OutsidePost:
    """A post to be looked up."""

    author_id: int
    did: str
    pds_url: str | None
    rkey: int
    attempts: int


def want(posts: Iterable[tuple[int, int, int]]) -> None:
    """Queue those of these posts that our rows cannot tell about: (author, rkey, reply's key).

    They are in the queue at the end of the caller's transaction.
    """
    newest: dict[tuple[int, int], int] = {}
    for author, rkey, key in posts:
        newest[author, rkey] = max(key, newest.get((author, rkey), 0))
    if not newest:
        return
    # One that is being backfilled will have a row, or turn out to have none.
    horizons = dict(
        rows_in(
            "SELECT author_id, CASE WHEN state = 3 THEN horizon_rkey ELSE -1 END"
            f" FROM repos WHERE state <> {repos.LET_GO} AND author_id",
            {author for author, _ in newest},
        )
    )
    wanted = step_at_the_end(_Wanted).newest
    for (author, rkey), key in newest.items():
        if author not in horizons or 0 <= rkey <= horizons[author]:
            wanted[author, rkey] = max(key, wanted.get((author, rkey), 0))


@retry_conflicts
def want_again(author_id: int, since_key: int) -> int:
    """Queue what an author's replies hang on below a horizon that came after them; how many.

    Looks at the newest LOOKED_AT items, and at none from before `since_key`.
    """
    replies = rows(
        "SELECT subject_id, subject_rkey, root_id, root_rkey, id FROM (SELECT * FROM feed_items"
        " WHERE author_id = ? AND id >= ? ORDER BY id DESC LIMIT ?) newest"
        f" WHERE {IS_POST.format(i='newest')} AND subject_id IS NOT NULL",
        (author_id, since_key, LOOKED_AT),
    )
    newest: dict[Key, int] = {}
    for *hanging, key in sorted(replies, key=itemgetter(4)):
        for account, rkey in (hanging[:2], hanging[2:]):
            if account is not None and rkey >= 0:
                newest[account, rkey, 0] = key
    below = _below_horizons(newest)
    record = ("author_id", "rkey")
    asked = rows_by_key("t.author_id, t.rkey, 0", "outside_posts", record, [k[:2] for k in below])
    missing = below - records.find(below).keys() - set(asked)
    if missing:
        with write_transaction():
            want((*key[:2], newest[key]) for key in missing)
    return len(missing)


def _below_horizons(posts: Collection[Key]) -> set[Key]:
    """Those of these posts that may have been there before what is fetched of their author."""
    horizons = dict(
        rows_in(
            "SELECT author_id, horizon_rkey FROM repos"
            f" WHERE state = {repos.LIVE} AND is_active = 1 AND author_id",
            {author for author, *_ in posts},
        )
    )
    return {key for key in posts if key[1] <= horizons.get(key[0], -1)}


@dataclass(slots=True)
class _Wanted:
    """What one transaction wants: they are queued at its end, in one order (conflicts.py)."""

    newest: dict[tuple[int, int], int] = field(default_factory=dict)

    def __call__(self) -> None:
        insert_rows(
            "INSERT INTO outside_posts (author_id, rkey, newest_key)",
            sorted((author, rkey, key) for (author, rkey), key in self.newest.items()),
            _RAISE,
        )


def remember(posts: Iterable[tuple[int, int, int | None, int]]) -> None:
    """Keep what is asked of posts whose author is let go.

    Each with its author, its rkey, whom it replies to, and the place of the newest reply that may
    hang on it: the rule must not judge those otherwise from now on. What a look-up found before we
    had these posts does not count any more.
    """
    posts = sorted(posts, key=lambda post: post[:2])
    known = [(author, rkey, THERE, parent) for author, rkey, parent, _ in posts]
    update_rows("outside_posts", ("state", "parent_id"), ("author_id", "rkey"), known)
    insert_rows(
        "INSERT INTO outside_posts (author_id, rkey, state, parent_id, newest_key)",
        [(who, rkey, THERE, parent, key) for who, rkey, parent, key in posts if parent is not None],
        _RAISE,
    )
    touch(author for author, *_ in posts)


def remember_gone(deleted: Mapping[Key, int], now_us: int) -> None:
    """The same of posts that were deleted, with each when, but for those that have a row again.

    No newer reply hangs on them.
    """
    held = records.find(deleted)
    insert_rows(
        "INSERT INTO outside_posts (author_id, rkey, state, newest_key)",
        [
            (*key[:2], MISSING, sort_key(min(deleted_us, now_us) // 1000, 0))
            for key, deleted_us in sorted(deleted.items())
            if key not in held
        ],
        "ON CONFLICT (author_id, rkey) DO UPDATE SET state = excluded.state, parent_id = NULL,"
        " newest_key = CASE WHEN outside_posts.newest_key < excluded.newest_key"
        " THEN excluded.newest_key ELSE outside_posts.newest_key END",
    )
    touch(author for author, *_ in deleted)


@retry_conflicts
def keep_what_hangs(author_id: int) -> None:
    """Of this account's posts, forget those that no reply here hangs on, and when others did.

    Looks at all items, since no index leads there, and holds nothing up meanwhile: what a reply
    asks for that comes in between stays as that left it.
    """
    known = rows("SELECT rkey, newest_key FROM outside_posts WHERE author_id = ?", (author_id,))
    if not known:
        return
    hanging = (
        "SELECT i.{0}_rkey AS rkey, i.id FROM feed_items i"
        f" WHERE i.{{0}}_id = ? AND {IS_POST.format(i='i')}"
    )
    newest = dict(
        rows(
            f"SELECT rkey, max(id) FROM ({hanging.format('subject')}"
            f" UNION ALL {hanging.format('root')}) hanging GROUP BY rkey",
            (author_id, author_id),
        )
    )
    gone = [(author_id, rkey, key) for rkey, key in known if rkey not in newest]
    needed = [(author_id, rkey, key, newest[rkey]) for rkey, key in known if rkey in newest]
    as_it_was = ("author_id", "rkey", "newest_key")
    with write_transaction():
        delete_rows("outside_posts", as_it_was, gone)
        update_rows("outside_posts", ("newest_key",), as_it_was, needed)
        touch([author_id])


def due(now_us: int, limit: int) -> list[OutsidePost]:
    """The next to be looked up: those under the newest replies first."""
    found = rows(
        "SELECT o.author_id, a.did, CASE WHEN a.checked_us > 0 THEN a.pds_url END, o.rkey,"
        " o.attempts FROM outside_posts o"
        " JOIN authors a ON a.id = o.author_id"
        " WHERE o.state = 0 AND o.not_before_us <= ? ORDER BY o.newest_key DESC LIMIT ?",
        (now_us, limit),
    )
    return [OutsidePost(*row) for row in found]


def settle(post: OutsidePost, state: int, parent_id: int | None) -> None:
    """What the look-up found: THERE (and whom it replies to), MISSING or UNKNOWN."""
    crash_point("outside post: asked, not settled")
    with write_transaction():
        execute(
            "UPDATE outside_posts SET state = ?, parent_id = ?"
            f" WHERE author_id = ? AND rkey = ? AND state = {WANTED}",
            (state, parent_id, post.author_id, post.rkey),
        )
        touch([post.author_id])
    crash_point("outside post: settled")


def postpone(post: OutsidePost, not_before_us: int) -> None:
    """Look it up later."""
    execute(
        "UPDATE outside_posts SET attempts = attempts + 1, not_before_us = ?"
        " WHERE author_id = ? AND rkey = ?",
        (not_before_us, post.author_id, post.rkey),
    )


@retry_conflicts
def expire(before_key: int) -> int:
    """Forget those that only replies from before this key hang on."""
    with write_transaction():
        gone = rows(
            "DELETE FROM outside_posts WHERE newest_key < ? RETURNING author_id", (before_key,)
        )
        touch(author for (author,) in gone)
    return len(gone)
