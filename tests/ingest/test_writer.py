"""Where a batch ends makes no difference: events in one batch mean what they mean in several."""

import itertools

import pytest

from server.core.events import UNTOLD, Account, Commit, RecordOp, Sync
from server.core.metrics import IngestMetrics
from server.core.syntax import FOLLOW, POST
from server.ingest import merge
from server.ingest.comparison import Comparison
from server.ingest.counters import SourceCounters
from server.ingest.merge import Merge
from server.ingest.place import Place
from server.ingest.source import source_of
from server.ingest.tracked import TrackedSet
from server.ingest.writer import BatchWriter
from server.storage import repos, viewers
from server.storage.batch import Batch, RepoCommit
from server.storage.database import rows
from server.storage.page_rows import Page
from server.storage.pages import Snapshot
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    commit_page,
    did,
    finish,
    iso,
    job_of,
    make_live,
    new_epoch,
    raw_cid,
    store_snapshot,
    tid,
    track,
    wipe,
)

RELAY = "wss://relay.test/xrpc/com.atproto.sync.subscribeRepos"
# What is told of an account: it is away, it is there, a commit, one that cannot be read, that no
# commit continues the repo.
EVENTS = ("gone", "back", "commit", "hole", "sync")
BEFORE = ("live", "away", "pending")
STORIES = tuple(itertools.product(BEFORE, itertools.product(EVENTS, repeat=3)))
LIVE_STORIES = [story for story in STORIES if story[0] == "live"]


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
        if what == "sync":
            return Sync(self.seq, NOW_MS, repo)
        since = self.revs.get(repo, 1)
        self.revs[repo] = since + 1
        op = what
        if not isinstance(op, RecordOp):
            record = {"$type": POST, "text": "", "createdAt": iso(NOW_MS)}
            op = RecordOp(POST, tid(since), raw_cid(since), record)
        hole = "tooBig" if what == "hole" else None
        told_since = since if self.has_chain else UNTOLD
        return Commit(self.seq, NOW_MS, repo, since + 1, told_since, (op,), hole)


def merged():
    comparison = Comparison({source_of(RELAY, "test").name: SourceCounters()}, IngestMetrics(), 0.0)
    return Merge(comparison, 0.0, NOW_MS)


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
    """By account: how complete, hidden or not and who says so, with a gap or not, what posts."""
    return {
        repo: told
        for repo, *told in rows(
            "SELECT a.did, r.state, r.is_active, r.status,"
            " (SELECT count(*) FROM gaps g WHERE g.author_id = a.id AND g.closed_us IS NULL),"
            " (SELECT count(*) FROM feed_items f WHERE f.author_id = a.id)"
            " FROM repos r JOIN authors a ON a.id = r.author_id"
        )
    }


def read_anew(told, names, behind):
    """Fetch who has to be fetched, from a PDS that lacks so many commits."""
    for name in names.values():
        job = job_of(name, told.epoch)
        if job is None:
            continue
        rev = max(1, told.revs.get(did(name), 1) - behind)
        if store_snapshot(job, rev, told.epoch) is Snapshot.STORED:
            has = Page(POST, [], {tid(number) for number in range(1, rev)}, None, None)
            assert commit_page(job, has, told.epoch)
            assert finish(job, 0, told.epoch)


def in_every_way(stories, look):
    """What `look` finds of each story, by which of the events but the last end a batch."""
    names = {story: f"a{number}" for number, story in enumerate(stories)}
    for ends in itertools.product((False, True), repeat=2):
        wipe()
        told = begin(names)
        for turn, ends_here in enumerate((*ends, True)):
            for (_, events), name in names.items():
                told.tell(name, events[turn])
            if ends_here:
                told.writer.commit()
        found = look(told, names)
        yield ends, {story: found[did(name)] for story, name in names.items()}


def each_means_the_same(ways):
    *ways, (_, each_alone) = ways
    for ends, found in ways:
        wrong = {story: (one, each_alone[story]) for story, one in found.items()}
        assert {story: two for story, two in wrong.items() if two[0] != two[1]} == {}, ends


@pytest.mark.usefixtures("db")
def test_one_batch_means_what_several_mean():
    each_means_the_same(in_every_way(STORIES, lambda told, names: outcome()))


@pytest.mark.usefixtures("db")
def test_a_pds_that_is_behind_takes_nothing_away_wherever_a_batch_ends():
    def look(told, names):
        at_first = outcome()
        read_anew(told, names, behind=1)
        then = outcome()
        # And when it has all, everything is the same.
        read_anew(told, names, behind=0)
        return {
            repo: (at_first[repo][-1] > then[repo][-1], *found) for repo, found in outcome().items()
        }

    ways = list(in_every_way(LIVE_STORIES, look))
    for ends, found in ways:
        stories = {story for story, (is_lost, *_) in found.items() if is_lost}
        assert {story for story in stories if not may_be_put_back(story)} == set(), ends
    each_means_the_same(
        (ends, {s: o[1:-1] if may_be_put_back(s) else o[1:] for s, o in found.items()})
        for ends, found in ways
    )


def may_be_put_back(story):
    """A #sync may tell of a repo that was put back to an earlier state than its last commit."""
    _, events = story
    words = [what for what in events if what in ("commit", "hole", "sync")]
    return words[-1:] == ["sync"]


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


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("what", ["hole", "lost"])
def test_a_word_that_overtakes_a_hole_still_stands_when_the_author_is_fetched(monkeypatch, what):
    monkeypatch.setattr(merge, "HOLD_SECONDS", 0)
    told = begin({("live", ()): "ann"}, merged())
    if what == "lost":
        told.revs[did("ann")] = 2
    told.tell("ann", "commit" if what == "lost" else what)
    told.tell("ann", "gone")
    told.writer.commit()
    assert rows("SELECT count(*) FROM gaps") == [(1,)]
    read_anew(told, {"": "ann"}, behind=0)
    status = "SELECT state, is_active, status FROM repos"
    assert rows(status) == [(repos.LIVE, 0, "takendown")]


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("is_earlier", [True, False])
@pytest.mark.parametrize("what", ["hole", "lost", "late"])
def test_a_word_is_doubted_for_what_comes_after_it_only(what, is_earlier):
    told = begin({("live", ()): "ann"})
    stream = Stream(told.epoch)
    stream.save(Batch(statuses={did("ann"): (False, "takendown")}))
    rev, since, hole = {"hole": (2, 1, "tooBig"), "lost": (3, 2, None), "late": (1, 1, None)}[what]
    one = RepoCommit(did("ann"), rev, since, (), hole, is_earlier)
    assert stream.save(Batch(commits=[one], late={did("ann")} if what == "late" else set())).holes
    status = rows("SELECT is_active, status FROM repos")
    assert status == [(0, "takendown" if is_earlier else "pds:takendown")]


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("before", ["live", "pending"])
def test_who_is_back_without_a_word_is_shown_once_they_are_fetched(before):
    told = begin({(before, ()): "ann"})
    for what in ("gone", "commit"):
        told.tell("ann", what)
        told.writer.commit()
    read_anew(told, {"": "ann"}, behind=0)
    assert rows("SELECT state, is_active FROM repos") == [(repos.LIVE, 1)]


def follow_op(name, *, is_edit):
    record = {"$type": FOLLOW, "subject": did(name), "createdAt": iso(NOW_MS)}
    return RecordOp(FOLLOW, tid(1), raw_cid(name), record, is_edit)


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("whom", ["will", "nobody here"])
def test_a_follow_that_is_edited_names_its_viewer_no_more_whomever_it_names_now(whom):
    for viewer in ("vera", "will"):
        viewers.welcome(did(viewer), NOW_US)
    told = begin({("live", ()): "ann"})
    for op in (follow_op("vera", is_edit=False), follow_op(whom, is_edit=True)):
        told.tell("ann", op)
        told.writer.commit()
    found = rows(
        "SELECT a.did FROM follow_backs b JOIN authors a ON a.id = b.viewer_id"
        " WHERE b.rkey IS NOT NULL"
    )
    assert found == ([(did(whom),)] if whom == "will" else [])


@pytest.mark.usefixtures("db")
def test_follows_among_others_are_passed_over():
    told = begin({("live", ()): "ann"})
    told.tell("ann", follow_op("nobody here", is_edit=False))
    told.writer.commit()
    assert rows("SELECT count(*) FROM authors") == [(1,)]
