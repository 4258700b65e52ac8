"""Where a batch ends makes no difference: events in one batch mean what they mean in several."""

import itertools

import pytest

from server.core.events import UNTOLD, Account, Commit, RecordOp
from server.core.metrics import IngestMetrics
from server.core.syntax import POST
from server.ingest import merge
from server.ingest.comparison import Comparison
from server.ingest.counters import SourceCounters
from server.ingest.merge import Merge
from server.ingest.place import Place
from server.ingest.source import source_of
from server.ingest.tracked import TrackedSet
from server.ingest.writer import BatchWriter
from server.storage.changes import Batch
from server.storage.database import rows
from tests.builders import NOW_MS, Stream, did, iso, make_live, new_epoch, raw_cid, tid, track, wipe

RELAY = "wss://relay.test/xrpc/com.atproto.sync.subscribeRepos"
# What is told of an account: it is away, it is there, a commit, one that cannot be read.
EVENTS = ("gone", "back", "commit", "hole")
BEFORE = ("live", "away", "pending")
STORIES = tuple(itertools.product(BEFORE, itertools.product(EVENTS, repeat=3)))


class Told:
    """A writer, and the events of many accounts."""

    def __init__(self, merge=None):
        self.epoch = new_epoch()
        tracked = TrackedSet()
        self.writer = BatchWriter(tracked, self.epoch, IngestMetrics(), merge)
        self.place = Place(source_of(RELAY, "test"), None, 0)
        self.writer.places[self.place.source.name] = self.place
        self.refresh = tracked.refresh
        self.has_chain = True
        self.seq = 0
        self.revs = {}

    def tell(self, name, what):
        self.seq += 1
        self.place.note(self.seq, NOW_MS)
        self.writer.add(self.place, self._event(did(name), what), NOW_MS)

    def _event(self, repo, what):
        if what in ("gone", "back"):
            status = "takendown" if what == "gone" else None
            return Account(self.seq, NOW_MS + self.seq, repo, what == "back", status)
        since = self.revs.get(repo, 1)
        self.revs[repo] = since + 1
        record = {"$type": POST, "text": "", "createdAt": iso(NOW_MS)}
        op = RecordOp(POST, tid(since), raw_cid(since), record)
        hole = "tooBig" if what == "hole" else None
        told_since = since if self.has_chain else UNTOLD
        return Commit(self.seq, NOW_MS, repo, since + 1, told_since, (op,), hole)


def merged():
    comparison = Comparison({source_of(RELAY, "test").name: SourceCounters()}, IngestMetrics(), 0.0)
    return Merge(comparison, NOW_MS)


def begin(names, merge=None):
    """Each account as its story begins."""
    told = Told(merge)
    track(*names.values())
    live = [name for (before, _), name in names.items() if before != "pending"]
    make_live(*live, epoch=told.epoch, rev=1)
    away = {did(name): (False, "old") for (before, _), name in names.items() if before == "away"}
    Stream(told.epoch, "other.test").save(Batch(statuses=away))
    told.refresh()
    return told


def outcome():
    """By account: how complete, hidden or not and why, with a gap or not, and which posts.

    Not who said it that hides: after a hole it is one's word who may be asked (repos.reset).
    """
    return {
        repo: (state, is_active, (status or "").removeprefix("pds:"), is_open, items)
        for repo, state, is_active, status, is_open, items in rows(
            "SELECT a.did, r.state, r.is_active, r.status,"
            " (SELECT count(*) FROM gaps g WHERE g.author_id = a.id AND g.closed_us IS NULL),"
            " (SELECT count(*) FROM feed_items f WHERE f.author_id = a.id)"
            " FROM repos r JOIN authors a ON a.id = r.author_id"
        )
    }


@pytest.mark.usefixtures("db")
def test_one_batch_means_what_several_mean():
    names = {story: f"a{number}" for number, story in enumerate(STORIES)}
    found = {}
    for ends in itertools.product((False, True), repeat=2):
        wipe()
        told = begin(names)
        for turn, ends_here in enumerate((*ends, True)):
            for (_, events), name in names.items():
                told.tell(name, events[turn])
            if ends_here:
                told.writer.commit()
        found[ends] = outcome()
    each_alone = found.pop((True, True))
    for ends, one in found.items():
        wrong = {story: (one[did(name)], each_alone[did(name)]) for story, name in names.items()}
        assert {story: two for story, two in wrong.items() if two[0] != two[1]} == {}, ends


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        (("gone", "back"), ["reactivated"]),
        (("gone", "commit"), ["commit of an inactive account"]),
        (("commit", "gone"), []),
        (("back", "commit"), []),
    ],
)
def test_the_order_counts_also_where_commits_wait_for_their_turn(events, reasons):
    told = begin({("live", events): "ann"}, merged())
    for what in events:
        told.tell("ann", what)
    told.writer.commit()
    assert [reason for (reason,) in rows("SELECT reason FROM gaps")] == reasons


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        (("commit", "gone"), []),
        (("gone", "commit"), ["commit of an inactive account"]),
        (("commit", "gone", "commit"), ["commit of an inactive account"]),
    ],
)
def test_a_word_that_overtakes_a_commit_is_not_doubted_for_it(monkeypatch, events, reasons):
    """A PDS that knows nothing of a takedown would be asked, and the account shown again."""
    told = begin({("live", events): "ann"}, merged())
    told.has_chain = False
    for what in events:
        told.tell("ann", what)
        told.writer.commit()
    assert len(told.writer.merge.held[did("ann")]) == events.count("commit")
    status = "SELECT is_active, status FROM repos"
    assert rows(status) == [(0, "takendown")]
    monkeypatch.setattr(merge, "REORDER_SECONDS", 0)
    told.writer.commit()
    assert rows("SELECT count(*) FROM feed_items") == [(events.count("commit"),)]
    assert [reason for (reason,) in rows("SELECT reason FROM gaps")] == reasons
    assert rows(status) == [(0, "pds:takendown" if reasons else "takendown")]
