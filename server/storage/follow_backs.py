"""Who follows a viewer back, as far as anybody has told: the stream, or a look-up.

The stream tells of follows made or undone while we listen; whatever is older, or fell into a hole,
is looked up (server/backfill/mutuals.py), and again when that was said STALE_US ago. Only pairs of
a viewer and somebody whom they follow are looked up, and only for viewers who opened a feed of
mutuals lately.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from server.core.projection import Change, SaveFollow
from server.core.syntax import FOLLOW
from server.storage import repos
from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, is_sqlite, rows
from server.storage.items import Names
from server.storage.many_rows import execute_in, insert_rows, rows_in, update_rows
from server.storage.opening import patient_transaction

DAY_US = 86_400_000_000
# How old a word may be before it is asked for again, and how often a viewer's are gone through.
STALE_US, ROUND_US = 7 * DAY_US, DAY_US
# A first look-up that does not come for so long has its reasons: nobody waits for it any more.
HOPELESS_US = 60_000_000
# A viewer who was not here for so long is looked up no more, until they ask again.
LAPSED_US = 30 * DAY_US
# How much earlier a look-up's word is than the moment it comes: the AppView hears of things a
# little later than we do. What the stream said meanwhile wins.
LAG_US = 60_000_000
# A word that is further ahead than this was noted by a clock that is wrong: it is of no time.
AHEAD_US = 3_600_000_000

_SAVE = (
    "ON CONFLICT (viewer_id, author_id) DO UPDATE SET rkey = excluded.rkey,"
    " checked_us = excluded.checked_us"
)


_DOUBT = "UPDATE follow_backs SET checked_us = ? WHERE checked_us > ?"


@dataclass(frozen=True, slots=True)
class Follower:
    """Somebody whom a viewer follows, and who may follow back."""

    author_id: int
    did: str


def apply(changes: Sequence[tuple[int, Change]], names: Names, now_us: int) -> None:
    """What the stream says of follows by these authors, in its order; in the caller's transaction.

    Follows of those who are no viewers are passed over.
    """
    followed = [names.authors[said.subject] for _, said in changes if isinstance(said, SaveFollow)]
    viewers = _viewers_among(followed)
    # What the rows are to be in the end, of those pairs of which a follow was said.
    said_of: dict[int, dict[int, int | None]] = {}
    undone: set[tuple[int, int]] = set()
    for author, change in changes:
        if not isinstance(change, SaveFollow) and change.collection != FOLLOW:
            continue
        # Also where a follow is saved: its record may have named somebody else before.
        rkey = names.rkeys[change.rkey]
        undone.add((author, rkey))
        pairs = said_of.get(author, {})
        pairs.update({viewer: None for viewer, said in pairs.items() if said == rkey})
        if isinstance(change, SaveFollow) and names.authors[change.subject] in viewers:
            said_of.setdefault(author, {})[names.authors[change.subject]] = rkey
    # Rows from before that bear such a key; then the pairs, which are right whatever was there.
    update_rows(
        "follow_backs",
        ("rkey", "checked_us"),
        ("author_id", "rkey"),
        [(author, rkey, None, now_us) for author, rkey in sorted(undone)],
    )
    saved = [
        (viewer, author, rkey, now_us)
        for author, pairs in said_of.items()
        for viewer, rkey in pairs.items()
    ]
    insert_rows(
        "INSERT INTO follow_backs (viewer_id, author_id, rkey, checked_us)",
        sorted(saved),
        _SAVE,
    )


def want(viewer_id: int, now_us: int) -> bool:
    """The viewer opens a feed of mutuals. Whether it makes sense to wait for the first look-up."""
    found = rows(
        "SELECT mutuals_due_us, mutuals_tried_us FROM viewers WHERE author_id = ?", (viewer_id,)
    )
    if not found:
        # Forgotten, which this process has not noticed yet: nobody is going to look them up.
        return False
    due_us, tried_us = found[0]
    # The first time is never later than now, but by a clock that was ahead.
    is_to_queue = due_us is None or (tried_us is None and due_us > now_us)
    if is_to_queue:
        execute(
            "UPDATE viewers SET mutuals_due_us = ? WHERE author_id = ? AND (mutuals_due_us IS NULL"
            " OR (mutuals_tried_us IS NULL AND mutuals_due_us > ?))",
            (now_us, viewer_id, now_us),
        )
    return tried_us is None and (is_to_queue or now_us - due_us < HOPELESS_US)


def are_tried(viewer_id: int) -> bool:
    """Whether the viewer's mutuals have been looked up, or could not be."""
    sql = "SELECT 1 FROM viewers WHERE author_id = ? AND mutuals_tried_us IS NOT NULL"
    return bool(rows(sql, (viewer_id,)))


def follows_changed(pairs: Iterable[tuple[int, int]], now_us: int) -> None:
    """Viewers follow somebody new, who may follow back already: not heard of, or no more so."""
    followed: dict[int, set[int]] = {}
    for viewer, author in pairs:
        followed.setdefault(viewer, set()).add(author)
    for viewer, authors in sorted(followed.items()):
        before = (*_stale(now_us), viewer)
        execute_in(f"{_DOUBT} AND viewer_id = ? AND author_id", sorted(authors), before)
    execute_in(
        "UPDATE viewers SET mutuals_due_us = ? WHERE mutuals_due_us > ? AND author_id",
        sorted(followed),
        (now_us, now_us),
    )


def due(now_us: int) -> tuple[int, str] | None:
    """The next viewer, whose follows are known, to look mutuals up for: number and DID."""
    found = rows(
        "SELECT v.author_id, a.did FROM viewers v JOIN authors a ON a.id = v.author_id"
        " JOIN repos r ON r.author_id = v.author_id"
        " WHERE v.mutuals_due_us <= ? AND v.last_us >= ? AND r.state >= ?"
        " ORDER BY v.mutuals_due_us LIMIT 1",
        (now_us, now_us - LAPSED_US, repos.PARTIAL),
    )
    return (int(found[0][0]), str(found[0][1])) if found else None


def unknown(viewer_id: int, now_us: int, limit: int) -> list[Follower]:
    """Those followed of whom nobody has told lately whether they follow back; the unasked first."""
    found = rows(
        "SELECT f.subject_id, a.did FROM"
        " (SELECT DISTINCT subject_id FROM follows WHERE viewer_id = ?) f"
        " JOIN authors a ON a.id = f.subject_id"
        " LEFT JOIN follow_backs b ON b.viewer_id = ? AND b.author_id = f.subject_id"
        " WHERE coalesce(b.checked_us, 0) < ? OR b.checked_us > ?"
        " ORDER BY coalesce(b.checked_us, 0) LIMIT ?",
        (viewer_id, viewer_id, now_us - STALE_US, now_us + AHEAD_US, limit),
    )
    return [Follower(*row) for row in found]


@retry_conflicts
def save(viewer_id: int, told: Mapping[int, int | None], asked_us: int) -> None:
    """What a look-up that began at `asked_us` said: by author, the key of the follow or None.

    Of a viewer who was forgotten since nothing is kept.
    """
    checked_us = asked_us - LAG_US
    with patient_transaction():
        insert_rows(
            "INSERT INTO follow_backs (viewer_id, author_id, rkey, checked_us)",
            [
                (viewer, author, rkey, checked_us)
                for viewer in _viewers_among([viewer_id])
                for author, rkey in sorted(told.items())
            ],
            f"{_SAVE} WHERE follow_backs.checked_us < excluded.checked_us"
            f" OR follow_backs.checked_us > excluded.checked_us + {AHEAD_US}",
        )


def done(viewer_id: int, again_us: int, now_us: int) -> None:
    """The viewer's turn is over, whatever came of it; the next one is at `again_us`."""
    execute(
        "UPDATE viewers SET mutuals_due_us = ?,"
        " mutuals_tried_us = coalesce(mutuals_tried_us, ?) WHERE author_id = ?",
        (again_us, now_us, viewer_id),
    )


def doubt(author_ids: Sequence[int], now_us: int) -> None:
    """The stream may have missed follows by these authors: the next round asks for them again."""
    execute_in(f"{_DOUBT} AND author_id", author_ids, _stale(now_us))


def doubt_all(now_us: int) -> None:
    """The same for everybody."""
    execute(_DOUBT, _stale(now_us))


@retry_conflicts
def expire(now_us: int) -> int:
    """Let lapsed viewers go, and forget what nobody has asked about or told for so long.

    Who follows back a viewer of late who follows them stays: where no AppView is asked, or none
    answers, nobody would tell it again. Two transactions: to make the first one again changes
    nothing.
    """
    lapsed_us = now_us - LAPSED_US
    execute(
        "UPDATE viewers SET mutuals_due_us = NULL, mutuals_tried_us = NULL"
        " WHERE mutuals_due_us IS NOT NULL AND last_us < ?",
        (lapsed_us,),
    )
    with patient_transaction():
        return execute(
            "DELETE FROM follow_backs WHERE checked_us < ? AND (rkey IS NULL OR NOT EXISTS"
            " (SELECT 1 FROM viewers v JOIN follows f ON f.viewer_id = v.author_id"
            " WHERE v.author_id = follow_backs.viewer_id AND v.last_us >= ?"
            " AND f.subject_id = follow_backs.author_id))",
            (lapsed_us, lapsed_us),
        )


def _viewers_among(accounts: Iterable[int]) -> set[int]:
    """Those of these accounts who are viewers, and stay so until the transaction ends."""
    lock = "" if is_sqlite() else "ORDER BY author_id FOR KEY SHARE"
    found = rows_in("SELECT author_id FROM viewers WHERE author_id", sorted(set(accounts)), lock)
    return {viewer for (viewer,) in found}


def _stale(now_us: int) -> tuple[int, int]:
    return now_us - STALE_US - 1, now_us - STALE_US - 1
