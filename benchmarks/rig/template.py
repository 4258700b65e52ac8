"""The baseline: how the feed generator template of the Python SDK reads a relay.

The SDK's own client; each message parsed, each commit's CAR opened, each created record made a
model; then a transaction for each commit with something wanted in it, through peewee's models
(rig/template_tables.py), and the cursor every 1,000 events. Only some accounts are wanted: the
template would look at that where it does here, after it has made its models.
"""

from collections import defaultdict
from typing import Any

from atproto import (
    CAR,
    AtUri,
    FirehoseSubscribeReposClient,
    firehose_models,
    models,
    parse_subscribe_repos_message,
)

from benchmarks.rig import template_tables as tables
from benchmarks.rig.corpus import Corpus
from benchmarks.rig.reader import Row, Task
from server.core.syntax import datetime_ms


class Template:
    """The template's stream and its tables."""

    def __init__(self, task: Task, corpus: Corpus) -> None:
        tables.open_tables(task.database_url)
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
        return tables.saved_rows()

    def _on_message(self, message: firehose_models.MessageFrame) -> None:
        event = parse_subscribe_repos_message(message)
        if isinstance(event, models.ComAtprotoSyncSubscribeRepos.Commit):
            if event.seq % 1000 == 0:
                tables.save_cursor(event.seq)
            if event.blocks:
                self._save(event, _ops_by_kind(event))
        if event.seq >= self.last_seq:
            self.client.stop()

    def _save(self, event: Any, ops: dict[str, list[dict[str, Any]]]) -> None:
        if event.repo not in self.tracked:
            return
        if ops["deleted"]:
            tables.drop([op["uri"] for op in ops["deleted"]])
        seen_ms = datetime_ms(event.time) or 0
        found = (tables.row_of(event.repo, **op, seen_ms=seen_ms) for op in ops["written"])
        rows = [row for row in found if row is not None]
        if rows:
            tables.save(rows)


def _ops_by_kind(event: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    car = CAR.from_bytes(event.blocks)
    for op in event.ops:
        uri = AtUri.from_str(f"at://{event.repo}/{op.path}")
        is_wanted = uri.collection in tables.WANTED
        if op.action == "delete":
            if is_wanted:
                found["deleted"].append({"uri": str(uri)})
            continue
        data = car.blocks.get(op.cid)
        if not op.cid or data is None:
            continue
        record = tables.model_of(data)
        if record is not None and is_wanted:
            found["written"].append({"record": record, "uri": str(uri), "cid": str(op.cid)})
    return found
