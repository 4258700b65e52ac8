"""What both of the template's ways share: its tables, a model of each record, how one is saved.

SQLite is set as ours is, so that the disk makes no difference. Where the template would not give
our rows (edits, the place in a timeline), it was given our rules, at no more cost than needed.
"""

from collections.abc import Iterable
from typing import Any

import peewee
from atproto import AtUri, models
from playhouse.db_url import connect

from benchmarks.rig.reader import Row
from server.core.projection import MEDIA, QUOTE, REPLY
from server.core.syntax import POST, REPOST, datetime_ms

WANTED = (POST, REPOST)

_db = peewee.DatabaseProxy()
_MEDIA_KINDS = ("app.bsky.embed.images", "app.bsky.embed.video")
_MAX_MS = 2**42 - 1
_SERVICE = "source"

Fields = dict[str, Any]


class Item(peewee.Model):
    """A post or a repost."""

    uri = peewee.CharField(primary_key=True)
    cid = peewee.CharField()
    author = peewee.CharField(index=True)
    sort_ms = peewee.BigIntegerField(index=True)
    flags = peewee.IntegerField()
    subject = peewee.CharField(null=True)
    root = peewee.CharField(null=True)

    class Meta:
        database = _db


class Cursor(peewee.Model):
    """How far the stream was read."""

    service = peewee.CharField(unique=True)
    cursor = peewee.BigIntegerField()

    class Meta:
        database = _db


def open_tables(url: str) -> None:
    """Make them in a new database."""
    pragmas = {"journal_mode": "wal", "synchronous": "normal"}
    options = {"pragmas": pragmas} if url.startswith("sqlite") else {}
    _db.initialize(connect(url, **options))
    _db.create_tables([Item, Cursor])
    Cursor.create(service=_SERVICE, cursor=0)


def save_cursor(cursor: int) -> None:
    """Remember how far the stream was read."""
    Cursor.update(cursor=cursor).where(Cursor.service == _SERVICE).execute()


def model_of(record: Fields) -> Any:
    """The SDK's model of a record, from DAG-CBOR or from JSON."""
    return models.get_or_create(record, strict=False)


def row_of(author: str, uri: str, cid: str, record: Any, seen_ms: int) -> Fields | None:
    """What is kept of a model; None: a record that the lexicon refuses."""
    created_ms = datetime_ms(record.created_at)
    if created_ms is None:
        return None
    created_ms = min(max(created_ms, 0), _MAX_MS)
    row: Fields = {"uri": uri, "cid": cid, "author": author, "flags": 0}
    row |= {"sort_ms": min(created_ms, seen_ms), "created_ms": created_ms}
    if f"/{REPOST}/" in uri:
        return {**row, "subject": record.subject.uri, "root": None}
    row["flags"] = _embed_flags(record.embed)
    if record.reply is None:
        return {**row, "subject": None, "root": None}
    parent, root = record.reply.parent.uri, record.reply.root.uri
    row["flags"] |= REPLY
    return {**row, "subject": parent, "root": None if root == parent else root}


def drop(uris: list[str]) -> None:
    """Delete what was deleted."""
    Item.delete().where(Item.uri.in_(uris)).execute()


def save(rows: Iterable[Fields]) -> None:
    """Write what one commit, or one event, brought, in a transaction."""
    with _db.atomic():
        for row in rows:
            _write(row)


def saved_rows() -> list[Row]:
    """What is in the table, in words."""
    found = []
    for item in Item.select():
        uri = AtUri.from_str(item.uri)
        kind = "repost" if uri.collection == REPOST else "post"
        refs = [
            text and "{0.host}/{0.rkey}".format(AtUri.from_str(text))
            for text in (item.subject, item.root)
        ]
        found.append((item.author, kind, uri.rkey, item.sort_ms, item.flags, *refs))
    return found


def _embed_flags(embed: Any) -> int:
    kind = None if embed is None else embed.py_type
    if kind == "app.bsky.embed.record":
        return QUOTE
    if kind == "app.bsky.embed.recordWithMedia":
        return QUOTE | (MEDIA if embed.media.py_type in _MEDIA_KINDS else 0)
    return MEDIA if kind in _MEDIA_KINDS else 0


def _write(row: Fields) -> None:
    created_ms = row.pop("created_ms")
    try:
        with _db.atomic():
            Item.create(**row)
    except peewee.IntegrityError:
        # An edit keeps its place, or sinks to an earlier date.
        old = Item.get_by_id(row["uri"])
        row["sort_ms"] = min(old.sort_ms, created_ms)
        Item.update(**row).where(Item.uri == row["uri"]).execute()
