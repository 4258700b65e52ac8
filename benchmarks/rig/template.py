"""The baseline: how the feed generator template of the Python SDK reads a relay.

The SDK's own client; each message parsed, each commit's CAR opened, each created record made a
model; then a transaction for each commit with something wanted in it, through peewee's models, and
the cursor every 1,000 events. SQLite is set as ours is, so that the disk makes no difference.

Where the template would not give our rows (edits, the place in a timeline, only some accounts), it
was given our rules, at no more cost than needed.
"""

from collections import defaultdict
from typing import Any

import peewee
from atproto import (
    CAR,
    AtUri,
    FirehoseSubscribeReposClient,
    firehose_models,
    models,
    parse_subscribe_repos_message,
)
from playhouse.db_url import connect

from benchmarks.rig.corpus import Corpus
from benchmarks.rig.reader import Row, Task
from server.core.projection import MEDIA, QUOTE, REPLY
from server.core.syntax import POST, REPOST, datetime_ms

_db = peewee.DatabaseProxy()
_MEDIA_KINDS = ("app.bsky.embed.images", "app.bsky.embed.video")
_MAX_MS = 2**42 - 1


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


class Template:
    """The template's stream and its tables."""

    def __init__(self, task: Task, corpus: Corpus) -> None:
        pragmas = {"journal_mode": "wal", "synchronous": "normal"}
        options = {"pragmas": pragmas} if task.database_url.startswith("sqlite") else {}
        _db.initialize(connect(task.database_url, **options))
        _db.create_tables([Item, Cursor])
        Cursor.create(service="relay", cursor=0)
        self.tracked = set(corpus.tracked(task.percent))
        self.last_seq = corpus.last_seq
        self.client = FirehoseSubscribeReposClient(base_uri=task.url.rsplit("/", 1)[0])

    def connect(self) -> None:
        """The SDK's client connects when it starts to read."""

    def read_all(self) -> None:
        """Until the last frame has been handled."""
        self.client.start(self._on_message)

    def close(self) -> None:
        """Nothing is left running."""

    def rows(self) -> list[Row]:
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

    def _on_message(self, message: firehose_models.MessageFrame) -> None:
        event = parse_subscribe_repos_message(message)
        if isinstance(event, models.ComAtprotoSyncSubscribeRepos.Commit):
            if event.seq % 1000 == 0:
                Cursor.update(cursor=event.seq).where(Cursor.service == "relay").execute()
            if event.blocks:
                self._save(event, _ops_by_kind(event))
        if event.seq >= self.last_seq:
            self.client.stop()

    def _save(self, event: Any, ops: dict[str, list[dict[str, Any]]]) -> None:
        if event.repo not in self.tracked:
            return
        if ops["deleted"]:
            Item.delete().where(Item.uri.in_([op["uri"] for op in ops["deleted"]])).execute()
        rows = [row for op in ops["written"] if (row := _row(event, op)) is not None]
        if rows:
            with _db.atomic():
                for row in rows:
                    _write(row)


def _ops_by_kind(event: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    car = CAR.from_bytes(event.blocks)
    for op in event.ops:
        uri = AtUri.from_str(f"at://{event.repo}/{op.path}")
        is_wanted = uri.collection in (POST, REPOST)
        if op.action == "delete":
            if is_wanted:
                found["deleted"].append({"uri": str(uri)})
            continue
        data = car.blocks.get(op.cid)
        if not op.cid or data is None:
            continue
        record = models.get_or_create(data, strict=False)
        if record is not None and is_wanted:
            found["written"].append({"record": record, "uri": str(uri), "cid": str(op.cid)})
    return found


def _row(event: Any, op: dict[str, Any]) -> dict[str, Any] | None:
    record = op["record"]
    created_ms = datetime_ms(record.created_at)
    if created_ms is None:
        return None
    created_ms = min(max(created_ms, 0), _MAX_MS)
    row = {"uri": op["uri"], "cid": op["cid"], "author": event.repo, "flags": 0}
    row |= {"sort_ms": min(created_ms, datetime_ms(event.time) or 0), "created_ms": created_ms}
    if f"/{REPOST}/" in op["uri"]:
        return {**row, "subject": record.subject.uri, "root": None}
    row["flags"] = _embed_flags(record.embed)
    if record.reply is None:
        return {**row, "subject": None, "root": None}
    parent, root = record.reply.parent.uri, record.reply.root.uri
    row["flags"] |= REPLY
    return {**row, "subject": parent, "root": None if root == parent else root}


def _embed_flags(embed: Any) -> int:
    kind = None if embed is None else embed.py_type
    if kind == "app.bsky.embed.record":
        return QUOTE
    if kind == "app.bsky.embed.recordWithMedia":
        return QUOTE | (MEDIA if embed.media.py_type in _MEDIA_KINDS else 0)
    return MEDIA if kind in _MEDIA_KINDS else 0


def _write(row: dict[str, Any]) -> None:
    created_ms = row.pop("created_ms")
    try:
        with _db.atomic():
            Item.create(**row)
    except peewee.IntegrityError:
        # An edit keeps its place, or sinks to an earlier date.
        old = Item.get_by_id(row["uri"])
        row["sort_ms"] = min(old.sort_ms, created_ms)
        Item.update(**row).where(Item.uri == row["uri"]).execute()
