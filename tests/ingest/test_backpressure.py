"""A slow database slows reading; nothing is lost, and nothing piles up, also over a long time."""

import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from server.ingest import writer
from server.storage import repos
from server.storage.authors import author_ids
from server.storage.changes import StreamCursor, commit_batch, load_cursor
from server.storage.database import value, write_transaction
from server.storage.gaps import open_gaps
from simnet.dag_cbor import Cid, encode
from simnet.repo import car
from tests.builders import NOW_MS, NOW_US, Batch, did, iso, tid
from tests.ingest.asking import cursor_seq, item_count, reasons
from tests.ingest.conftest import wait_until
from tests.ingest.frames import LIKE, POST, commit_frame, create
from tests.ingest.test_websocket import serving

POSTS = 200
SOAK_SECONDS, WARM_SECONDS = 35.0, 12.0
# One in so many frames is of the author whom we track.
STRANGERS = 10
GROWTH_MB = 6


@pytest.mark.usefixtures("db")
def test_a_database_that_is_slow_delays_everything_and_loses_nothing(
    net, alice, bob, at_rest, reading, monkeypatch
):
    monkeypatch.setattr(writer, "BATCH_CHANGES", 20)
    commits = []

    def slowly(batch, *args, **named):
        commits.append(len(batch.commits))
        time.sleep(0.1)
        return commit_batch(batch, *args, **named)

    monkeypatch.setattr(writer, "commit_batch", slowly)
    with reading(net.relay.url):
        for number in range(POSTS // 2):
            alice.post(str(number))
            bob.post(str(number))
        wait_until(lambda: cursor_seq(net) == net.relay.stream.last_seq, "the cursor's arrival")
    assert (item_count(), reasons()) == (POSTS, [])
    # What is in hand never exceeds a batch, though the relay was ahead by hundreds.
    assert len(commits) >= 10
    assert max(commits) <= 20


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


def own_memory_mb():
    """Without the pages of the database's file, which are the kernel's to keep or to drop."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


@pytest.mark.slow
def test_the_reader_does_not_grow(sqlite, lease, reading):
    relay = Endless()
    with write_transaction():
        repos.track(author_ids([did("alice")]).values(), repos.ITEMS, NOW_US)
    with serving(relay.talk) as url:
        host = url.split("/")[2]
        commit_batch(Batch(), StreamCursor(host, 0, NOW_MS - 1), lease.epoch, NOW_US)
        with reading(url) as running:
            began = time.monotonic()
            time.sleep(WARM_SECONDS)
            warm_mb = own_memory_mb()
            time.sleep(SOAK_SECONDS)
            grown_mb = own_memory_mb() - warm_mb
            assert running.thread.is_alive()
            read = load_cursor(host).seq
            frames_per_s = read / (time.monotonic() - began)
    saved = value("SELECT count(*) FROM feed_items")
    # The reader may have read on since, by less than what is still under way.
    assert read // STRANGERS <= saved <= relay.posts
    assert open_gaps(9) == []
    assert frames_per_s > 200, "so few frames prove nothing"
    assert grown_mb < GROWTH_MB, f"{grown_mb:.0f} MB more after {read} frames"
