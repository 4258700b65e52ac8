"""A reader that reads for long does not grow. In a process of its own, as in service."""

import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from server.core.setting_values import RELAY_PATH
from server.storage import leases, repos
from server.storage.authors import author_ids
from server.storage.batch import Batch
from server.storage.changes import commit_batch
from server.storage.cursors import StreamCursor
from server.storage.database import value, write_transaction
from server.storage.gaps import open_gaps
from simnet.dag_cbor import Cid, encode
from simnet.repo import car
from tests.builders import NOW_MS, NOW_US, did, iso, tid
from tests.ingest.frames import LIKE, POST, commit_frame, create
from tests.ingest.test_websocket import serving
from tests.system.service import Service
from tests.system.waiting import wait_until

# What is done once a minute has been done once: its threads keep pages of the database afterwards.
SOAK_SECONDS, WARM_SECONDS = 35.0, 65.0
# One in so many frames is of the author whom we track.
STRANGERS = 10
GROWTH_MB = 6
START_SECONDS = 30.0


class Endless:
    """A relay that talks without end: one author whom we track, and strangers."""

    def __init__(self):
        self.last_seq = 0
        self.posts = 0

    def talk(self, socket):
        try:
            while True:
                socket.send(self.frame())
        except ConnectionClosed:
            pass

    def frame(self):
        self.last_seq += 1
        number = self.last_seq
        if number % STRANGERS:
            name, place, since = f"stranger{number % 1000}", tid(number), tid(number - 1000)
            collection, text = LIKE, "like"
        else:
            self.posts += 1
            name, place, since = "alice", tid(number), tid(number - STRANGERS)
            collection, text = POST, f"post {number}"
        block = encode({"$type": collection, "text": text, "createdAt": iso(NOW_MS - number)})
        cid = Cid.of(block)
        return commit_frame(
            seq=number,
            repo=did(name),
            rev=place,
            since=since if number > STRANGERS else None,
            commit=cid,
            blocks=car(cid, {cid: block}),
            ops=[create(cid, f"{collection}/{place}")],
        )


def memory_mb(pid):
    """Without the pages of the database's file, which are the kernel's to keep or to drop."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def last_read():
    return value("SELECT max(seq) FROM stream_cursors")


@pytest.mark.slow
def test_the_reader_does_not_grow(sqlite, tmp_path):
    relay = Endless()
    with write_transaction():
        repos.track(author_ids([did("alice")]).values(), repos.ITEMS, NOW_US)
    with serving(relay.talk) as address:
        url = address.replace("/path", RELAY_PATH)
        lease = leases.acquire("test", NOW_US)
        commit_batch(Batch(), StreamCursor(url.split("/")[2], 0, NOW_MS - 1), lease.epoch, NOW_US)
        lease.release()
        # Nobody can be asked for history: only the stream is at work.
        environ = {"PLC_URL": "http://127.0.0.1:9", "ALLOW_PRIVATE_HOSTS": "1"}
        service = Service(
            {**environ, "DATABASE_URL": sqlite, "STREAM_URLS": url}, tmp_path, command="ingest"
        )
        service.launch()
        try:
            wait_until(lambda: last_read() > 0, START_SECONDS, service.log_text)
            time.sleep(WARM_SECONDS)
            began, first, warm_mb = time.monotonic(), last_read(), memory_mb(service.pid)
            time.sleep(SOAK_SECONDS)
            grown_mb = memory_mb(service.pid) - warm_mb
            read = last_read()
            frames_per_s = (read - first) / (time.monotonic() - began)
        finally:
            service.end()
    saved = value("SELECT count(*) FROM feed_items")
    # It may have read on since, by less than what the relay has said.
    assert read // STRANGERS <= saved <= relay.posts
    assert open_gaps(9) == []
    assert frames_per_s > 200, "so few frames prove nothing"
    assert grown_mb < GROWTH_MB, f"{grown_mb:.0f} MB more after {read} frames"
