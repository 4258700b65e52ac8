"""The same world in two layouts: our tables, and those of the official AppView.

Rows go in without indexes, which are built after: a bulk load, not what either service does in
life. `bytes_an_item` is the table of items with all its indexes, freshly built.
"""

import contextlib
import io
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg2

from benchmarks.rig.timeline_world import (
    END_MS,
    POST_KIND,
    REPOST_KIND,
    Item,
    TimelineWorld,
    Viewer,
    did_of,
)
from server.core.syntax import POST, REPOST, int_to_tid
from server.storage import outside_posts, repos
from server.storage.database import close_database
from server.storage.migrate import migrate
from server.storage.newest import RENEW
from server.storage.opening import open_database
from server.storage.records import COLUMNS
from simnet.clock import iso

LAYOUTS = ("ours", "official")
FOLLOW = "app.bsky.graph.follow"

# As its migrations make them, but for statistics and columns of other features.
_OFFICIAL_TABLES = (
    'CREATE TABLE feed_item (uri varchar NOT NULL, cid varchar NOT NULL, "type" varchar NOT NULL,'
    ' "postUri" varchar NOT NULL, "originatorDid" varchar NOT NULL, "sortAt" varchar NOT NULL)',
    "CREATE TABLE follow (uri varchar NOT NULL, cid varchar NOT NULL, creator varchar NOT NULL,"
    ' "subjectDid" varchar NOT NULL, "createdAt" varchar NOT NULL, "indexedAt" varchar NOT NULL,'
    ' "sortAt" varchar NOT NULL)',
)
_OFFICIAL_INDEXES = (
    "CREATE UNIQUE INDEX feed_item_key ON feed_item (uri)",
    'CREATE INDEX feed_item_originator_cursor ON feed_item ("originatorDid", "sortAt", cid)',
    'CREATE INDEX feed_item_cursor ON feed_item ("sortAt", cid)',
    'CREATE INDEX feed_item_post_uri ON feed_item ("postUri")',
    "CREATE UNIQUE INDEX follow_key ON follow (uri)",
    'CREATE UNIQUE INDEX follow_pair ON follow (creator, "subjectDid")',
    'CREATE INDEX follow_subject ON follow ("subjectDid")',
)
# Our indexes of items come and go by what the migrations say of them.
_SQLITE_INDEXES = "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'feed_items' AND sql LIKE"
_POSTGRESQL_INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes"
    " WHERE tablename = 'feed_items' AND indexname NOT LIKE '%pkey' AND indexdef LIKE"
)

# Writes rows of a table, as many as there are.
Put = Callable[[str, Sequence[str], Sequence[Sequence[Any]]], None]


def load(layout: str, url: str, world: TimelineWorld) -> None:
    """Make the tables of an empty database, and fill them."""
    if layout == "ours":
        open_database(url)
        migrate()
        close_database()
    with connected(url) as connection:
        put = _putter(connection)
        run = connection.cursor().execute
        if layout == "ours":
            found = connection.cursor()
            found.execute(f"{_indexes_of(connection)} 'CREATE %INDEX%'")
            indexes = found.fetchall()
            for name, _ in indexes:
                run(f"DROP INDEX {name}")
            _put_ours(put, world)
            makers = [sql for _, sql in indexes]
        else:
            for sql in _OFFICIAL_TABLES:
                run(sql)
            _put_official(put, world)
            makers = list(_OFFICIAL_INDEXES)
        for sql in makers:
            run(sql)
        if layout == "ours":
            run(RENEW)
    _settle(url)


def bytes_an_item(layout: str, url: str, world: TimelineWorld) -> float:
    """The table of items and its indexes."""
    table = "feed_items" if layout == "ours" else "feed_item"
    with connected(url) as connection:
        cursor = connection.cursor()
        if url.startswith("sqlite"):
            # Of an index `tbl_name` is its table; its pages stand under its own name.
            named = "SELECT name FROM sqlite_master WHERE tbl_name = ?"
            sizes = "SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 AND name IN"
            cursor.execute(f"{sizes} ({named})", (table,))
        else:
            cursor.execute(f"SELECT pg_total_relation_size('{table}')")
        return float(cursor.fetchone()[0]) / world.count


@contextlib.contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection of the driver's, for as long as the block runs; then what it did is saved."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("PRAGMA synchronous = off")
            connection.execute("PRAGMA cache_size = -500000")
            yield connection
            connection.commit()
        return
    with closing(psycopg2.connect(url)) as connection:
        connection.cursor().execute("SET maintenance_work_mem = '1GB'")
        yield connection
        connection.commit()


def _indexes_of(connection: Any) -> str:
    return _SQLITE_INDEXES if isinstance(connection, sqlite3.Connection) else _POSTGRESQL_INDEXES


def _putter(connection: Any) -> Put:
    if isinstance(connection, sqlite3.Connection):

        def insert(table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
            marks = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
                rows,
            )

        return insert

    def copy(table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        lines = ("\t".join("\\N" if v is None else str(v) for v in row) for row in rows)
        text = io.StringIO("\n".join(lines) + "\n")
        connection.cursor().copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", text)

    return copy


def _settle(url: str) -> None:
    """What the databases' own housekeeping would have done by then."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("ANALYZE")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("VACUUM ANALYZE")


def _put_ours(put: Put, world: TimelineWorld) -> None:
    viewers = world.viewers()
    last = viewers[-1].number
    put("authors", ("id", "did"), [(number, did_of(number)) for number in range(1, last + 1)])
    state = ("author_id", "state", "wants", "epoch", "tracked_version", "horizon_rkey")
    tracked = [*range(1, world.authors + 1), *(viewer.number for viewer in viewers)]
    put("repos", state, [(number, repos.LIVE, repos.ITEMS, 1, 1, 1) for number in tracked])
    for viewer in viewers:
        rows = [(viewer.number, rkey, who) for rkey, who in enumerate(viewer.follows)]
        put("follows", ("viewer_id", "rkey", "subject_id"), rows)
    _put_viewers_state(put, viewers)
    outside: set[tuple[int, int]] = set()
    for chunk in world.items():
        items = [
            (i.key, i.author, i.rkey, None if i.collection == REPOST_KIND else i.flags, i.subject,
             i.subject_rkey, i.root, i.root_rkey)
            for i in chunk
        ]  # fmt: skip
        put("feed_items", COLUMNS, items)
        outside.update(ref for item in chunk for ref in _hanging_on_strangers(item, world))
    names = ("author_id", "rkey", "state", "newest_key")
    put("outside_posts", names, [(*ref, outside_posts.THERE, 0) for ref in sorted(outside)])


def _put_viewers_state(put: Put, viewers: Sequence[Viewer]) -> None:
    """What Mutuals and Catch up go by."""
    now_us = END_MS * 1000
    for viewer in viewers:
        rows = [
            (viewer.number, author, rkey if viewer.is_followed_back(author) else None, now_us)
            for rkey, author in enumerate(sorted(viewer.follows))
        ]
        put("follow_backs", ("viewer_id", "author_id", "rkey", "checked_us"), rows)
    places = [(viewer.number, "catch-up", viewer.read_to, now_us) for viewer in viewers]
    put("read_positions", ("viewer_id", "feed", "sort_key", "written_us"), places)


def _hanging_on_strangers(item: Item, world: TimelineWorld) -> Iterator[tuple[int, int]]:
    if item.collection == POST_KIND:
        for account, rkey in ((item.subject, item.subject_rkey), (item.root, item.root_rkey)):
            if account is not None and rkey is not None and account in world.strangers:
                yield account, rkey


def _put_official(put: Put, world: TimelineWorld) -> None:
    viewers = world.viewers()
    dids = {number: did_of(number) for number in range(1, viewers[-1].number + 1)}
    columns = ("uri", "cid", "creator", '"subjectDid"', '"createdAt"', '"indexedAt"', '"sortAt"')
    moment = iso(world.start_ms * 1000)
    for viewer in viewers:
        creator, base = dids[viewer.number], viewer.number * 1_000_000
        rows = [
            (f"at://{creator}/{FOLLOW}/{int_to_tid(base + n)}", _cid(base + n), creator, dids[who])
            for n, who in enumerate(viewer.follows)
        ]
        put("follow", columns, [(*row, moment, moment, moment) for row in rows])
    names = ("uri", "cid", '"type"', '"postUri"', '"originatorDid"', '"sortAt"')
    for chunk in world.items():
        put("feed_item", names, [_official_row(item, dids) for item in chunk])


def _official_row(item: Item, dids: dict[int, str]) -> tuple[str, ...]:
    did, tid = dids[item.author], int_to_tid(item.rkey)
    sort_at = iso(item.ms * 1000)
    if item.collection == POST_KIND:
        uri = f"at://{did}/{POST}/{tid}"
        return uri, _cid(item.key), "post", uri, did, sort_at
    assert item.subject is not None
    assert item.subject_rkey is not None
    post_uri = f"at://{dids[item.subject]}/{POST}/{int_to_tid(item.subject_rkey)}"
    return f"at://{did}/{REPOST}/{tid}", _cid(item.key), "repost", post_uri, did, sort_at


def _cid(number: int) -> str:
    """As long as a CID, and as random to an index."""
    return f"bafyrei{number * 0x9E3779B97F4A7C15F39CC0605CEDC8341082276BF3A27251 & 2**208 - 1:052x}"
