"""What our rows say about one record and one viewer: for `explain`. It only reads.

What rows cannot say: from which source a record came, and when we first heard of it. An item keeps
its place, which is the earlier of its date and first sight, and no more (docs/decisions.md).
"""

import math
from dataclasses import dataclass

from server.core.projection import KEY_TIE_BITS
from server.core.syntax import POST, REPOST
from server.storage import outside_posts, records, repos
from server.storage.database import rows
from server.storage.items import COLLECTIONS
from server.storage.many_rows import rows_in
from server.storage.records import Key
from server.storage.rkeys import decode_rkeys, find_rkey

SHOWN_REPOSTS = 5


@dataclass(frozen=True, slots=True)
class Item:
    """A row of feed_items. `subject`: the parent of a reply, or what is reposted."""

    key: int
    flags: int
    subject: tuple[int, int] | None
    root: tuple[int, int] | None

    @property
    def sort_us(self) -> int:
        """Its place in time: the earlier of its own date and first sight."""
        return (self.key >> KEY_TIE_BITS) * 1000


@dataclass(frozen=True, slots=True)
class RepoFacts:
    """What is known of an author's repo. `live_us`: since when it is complete and listened to."""

    state: int
    is_active: bool
    status: str | None
    horizon_rkey: int
    live_us: int | None


@dataclass(frozen=True, slots=True)
class Relative:
    """A post that a reply hangs on. `is_there` is None where nobody can tell."""

    role: str
    did: str
    is_followed: bool
    is_there: bool | None


def key_of(author_id: int, collection: str, rkey: str) -> Key | None:
    """The key that our tables have, or would have, for a record; None: none yet."""
    number = find_rkey(rkey)
    return None if number is None else (author_id, number, COLLECTIONS[collection])


def item(key: Key) -> Item | None:
    """The row of a record."""
    found = records.find([key]).get(key)
    if found is None:
        return None
    number, _, _, flags, subject, subject_rkey, root, root_rkey = found
    return Item(
        number,
        flags or 0,
        None if subject is None else (subject, subject_rkey),
        None if root is None else (root, root_rkey),
    )


def deleted_us(key: Key) -> int | None:
    """When we wrote down that the stream deleted a record; None if it did not, or long ago."""
    found = rows(
        "SELECT written_us FROM tombstones"
        " WHERE author_id = ? AND rkey = ? AND collection = ? AND is_alive = 0",
        key,
    )
    return int(found[0][0]) if found else None


def repo(author_id: int) -> RepoFacts | None:
    """The author's repo, if we ever tracked it."""
    found = rows(
        "SELECT state, is_active, status, horizon_rkey, live_us FROM repos WHERE author_id = ?",
        (author_id,),
    )
    if not found:
        return None
    state, is_active, status, horizon_rkey, live_us = found[0]
    return RepoFacts(state, bool(is_active), status, horizon_rkey, live_us)


def follow_rkeys(viewer_id: int, author_id: int) -> list[str]:
    """The keys of the viewer's follow records that name this author, the oldest first."""
    found = rows(
        "SELECT rkey FROM follows WHERE viewer_id = ? AND subject_id = ? ORDER BY rkey",
        (viewer_id, author_id),
    )
    texts = decode_rkeys(number for (number,) in found)
    return [texts[number] for (number,) in found]


def relatives(viewer_id: int, reply: Item) -> list[Relative]:
    """What a reply hangs on: parent, root, and whom the parent replies to, as far as known."""
    found = []
    if reply.subject is not None:
        found.append(("parent", reply.subject[0], is_there(*reply.subject)))
    if reply.root is not None:
        found.append(("root", reply.root[0], is_there(*reply.root)))
    above = None if reply.subject is None else _replied_to(*reply.subject)
    if above is not None:
        found.append(("grandparent", above, None))
    dids = dict(rows_in("SELECT id, did FROM authors WHERE id", {who for _, who, _ in found}))
    return [
        Relative(role, dids[who], who == viewer_id or bool(follow_rkeys(viewer_id, who)), there)
        for role, who, there in found
    ]


def is_there(author_id: int, rkey: int) -> bool | None:
    """Whether a post that somebody's reply hangs on is there, as far as we can know."""
    home = repo(author_id)
    if home is not None and not home.is_active:
        return False
    if item((author_id, rkey, COLLECTIONS[POST])) is not None:
        return True
    # Keys that are no TIDs stand nowhere among them: they are known down to the beginning only.
    since = -math.inf if home is None or home.horizon_rkey == 0 else home.horizon_rkey
    if home is not None and home.state == repos.LIVE and rkey > since:
        return False
    found = rows(
        "SELECT state FROM outside_posts WHERE author_id = ? AND rkey = ?", (author_id, rkey)
    )
    known = {outside_posts.THERE: True, outside_posts.MISSING: False}
    return known.get(found[0][0]) if found else None


def reposts_by_followed(viewer_id: int, key: Key) -> list[str]:
    """The first reposts of a post by the viewer and whom they follow: why it may show otherwise.

    Looks at all of their reposts: no index has the subject, since no page asks for it.
    """
    found = rows(
        "SELECT a.did, i.rkey FROM"
        " (SELECT subject_id AS id FROM follows WHERE viewer_id = ? UNION SELECT ?) f"
        f" JOIN feed_items i ON i.author_id = f.id AND {records.IS_REPOST.format(i='i')}"
        " AND i.subject_id = ? AND i.subject_rkey = ?"
        " JOIN authors a ON a.id = f.id ORDER BY i.id DESC LIMIT ?",
        (viewer_id, viewer_id, *key[:2], SHOWN_REPOSTS),
    )
    texts = decode_rkeys(number for _, number in found)
    return [f"at://{did}/{REPOST}/{texts[number]}" for did, number in found]


def _replied_to(author_id: int, rkey: int) -> int | None:
    """Whom a post replies to, where we know the post."""
    known = item((author_id, rkey, COLLECTIONS[POST]))
    if known is not None:
        return None if known.subject is None else known.subject[0]
    found = rows(
        "SELECT parent_id FROM outside_posts WHERE author_id = ? AND rkey = ?", (author_id, rkey)
    )
    return found[0][0] if found else None
