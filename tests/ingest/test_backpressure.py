"""A slow database slows reading; nothing is lost, and nothing piles up."""

import time

import pytest

from server.ingest import writer
from server.storage.changes import commit_batch
from tests.ingest.asking import cursor_seq, item_count, reasons
from tests.ingest.conftest import wait_until

POSTS = 200


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
