"""Forgetting a viewer on request: what we hold because they opened a feed goes at once.

That they are a viewer, when they came, how far they read, and the copy of whom they follow. An
account that a viewer still here follows goes on being an author, like everybody's: its public posts
belong to that viewer's feed. If nobody follows it, its items, marks, jobs, gaps and identity go as
well. What stays is the number of its DID, which other people's rows may refer to (a repost, a
thread), and which says nothing about who opened what; and of its posts on which somebody else's
replies hang, whom they reply to, or that they were deleted, as we know it of strangers'
(outside_posts.py).

Backups made before still have all of it, until they are rotated away.
"""

import time
from dataclasses import dataclass

from server.core.syntax import POST
from server.storage import outside_posts, repos, tombstones, viewers
from server.storage.authors import author_id
from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, lock_table, rows, value, write_transaction
from server.storage.items import COLLECTIONS
from server.storage.newest import renew_newest
from server.storage.opening import patiently
from server.storage.records import IS_POST
from server.storage.touched import touch


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted. `is_author`: somebody still here follows the account."""

    was_viewer: bool
    is_author: bool
    follows: int
    items: int


def forget(did: str) -> Forgotten | None:
    """Forget a viewer; None if the DID is in no table."""
    number = author_id(did)
    if number is None:
        return None
    # Of somebody who wrote half a million posts it takes long, and is done or not done at all.
    with patiently(0):
        forgotten = _forget(number)
        if not forgotten.is_author:
            outside_posts.keep_what_hangs(number)
    return forgotten


@retry_conflicts
def _forget(number: int) -> Forgotten:
    with write_transaction():
        # Locks the row against the stream's reader, which might be writing a follow.
        repo = repos.load_repos([number]).get(number)
        # And this against follows of the account: they are committed, or come when it is let go.
        lock_table("follows")
        was_viewer = viewers.forget(number)
        follows = execute("DELETE FROM follows WHERE viewer_id = ?", (number,))
        touch([number])
        # Marks of follow records (collection 2) are traces of them.
        execute("DELETE FROM tombstones WHERE author_id = ? AND collection = 2", (number,))
        is_author = value("SELECT 1 FROM follows WHERE subject_id = ? LIMIT 1", (number,))
        items = 0
        if repo is not None and is_author and repo.wants & repos.FOLLOWS:
            repos.want_items_only(repo)
        elif not is_author:
            repos.let_go(number)
            items = _drop_everything(number)
    return Forgotten(was_viewer, bool(is_author), follows, items)


def _drop_everything(number: int) -> int:
    # On which of them others hang, is looked at later, when no more of those can come unnoticed.
    deleted = tombstones.take_deleted(number, COLLECTIONS[POST], 2**31 - 1)
    outside_posts.remember_gone(deleted, time.time_ns() // 1000)
    outside_posts.remember(
        rows(
            "SELECT i.author_id, i.rkey, i.subject_id, i.id FROM feed_items i"
            f" WHERE i.author_id = ? AND {IS_POST.format(i='i')}",
            (number,),
        )
    )
    items = execute("DELETE FROM feed_items WHERE author_id = ?", (number,))
    renew_newest([number])
    for table in (
        "tombstones",
        "backfill_jobs",
        "gaps",
        "follow_backs",
        "departures",
        "crowded_authors",
    ):
        execute(f"DELETE FROM {table} WHERE author_id = ?", (number,))
    execute(
        "UPDATE authors SET handle = NULL, pds_url = NULL, signing_key = NULL, checked_us = NULL"
        " WHERE id = ?",
        (number,),
    )
    return items
