"""The baseline for Jetstreams: how a feed that was made of the SDK's template reads one.

The SDK has no client for them, so people take websockets' (asyncio), `json.loads` for each message,
and look at its kind and its account at once; what they want of it goes the template's way: a model
for each record, a transaction for each event, the cursor every 1,000 events. Compressed messages go
through zstandard with the dictionary of that version.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import zstandard
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.rig import jetstream
from benchmarks.rig import template_tables as tables
from benchmarks.rig.corpus import Corpus
from benchmarks.rig.reader import Row, Task
from server.core.setting_values import JETSTREAM_V2_PATH
from server.core.syntax import datetime_ms

Fields = dict[str, Any]


class JetstreamTemplate:
    """A stream of either version, and the template's tables."""

    def __init__(self, task: Task, corpus: Corpus) -> None:
        tables.open_tables(task.database_url)
        self.url = task.url
        self.on_event = self._on_v2 if task.url.endswith(JETSTREAM_V2_PATH) else self._on_v1
        self.tracked = set(corpus.tracked(task.percent))
        self.last_us = jetstream.last_us(corpus, task.laps)
        self.messages = 0
        content = b"" if task.dictionary is None else Path(task.dictionary).read_bytes()
        dictionary = zstandard.ZstdCompressionDict(content)
        self.decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)
        self.loop = asyncio.new_event_loop()
        self.socket: ClientConnection | None = None

    def connect(self) -> None:
        """Be connected."""
        self.socket = self.loop.run_until_complete(self._open())

    def read_all(self) -> None:
        """Until the last event has been handled."""
        self.loop.run_until_complete(self._read())

    def close(self) -> None:
        """Leave without a word: the feeder would not answer it."""
        assert self.socket is not None
        self.socket.transport.abort()
        self.loop.run_until_complete(self.socket.wait_closed())
        self.loop.close()

    def rows(self) -> list[Row]:
        """What is in the table, in words."""
        return tables.saved_rows()

    async def _open(self) -> ClientConnection:
        # A pong comes after all that was sent before it: with pings, a slow reader is cut off.
        return await connect(self.url, max_size=None, ping_interval=None)

    async def _read(self) -> None:
        assert self.socket is not None
        async for message in self.socket:
            if isinstance(message, bytes):
                message = self.decompressor.decompress(message)
            at_us = self.on_event(json.loads(message))
            self.messages += 1
            if self.messages % 1000 == 0:
                tables.save_cursor(at_us)
            if at_us >= self.last_us:
                return

    def _on_v1(self, event: Fields) -> int:
        at_us = int(event["time_us"])
        if event["kind"] == "commit" and event["did"] in self.tracked:
            _save(event["did"], event["commit"], at_us // 1000)
        return at_us

    def _on_v2(self, event: Fields) -> int:
        told = event["payload"]
        if told["$type"].endswith("#commit") and told["did"] in self.tracked:
            _save(told["did"], told, datetime_ms(told["time"]) or 0)
        return int(told["seq"])


def _save(did: str, op: Fields, seen_ms: int) -> None:
    if op["collection"] not in tables.WANTED:
        return
    uri = f"at://{did}/{op['collection']}/{op['rkey']}"
    if op["operation"] == "delete":
        tables.drop([uri])
        return
    record = tables.model_of(op["record"])
    if record is not None:
        row = tables.row_of(did, uri, op["cid"], record, seen_ms)
        if row is not None:
            tables.save([row])
