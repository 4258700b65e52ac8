"""What backfills write in one group: the rows of groups of one each, by as few statements."""

import random
from collections import defaultdict

import pytest

from server.core.syntax import FOLLOW, POST, REPOST
from server.storage import many_rows, pages, repos
from server.storage.authors import StoredIdentity
from server.storage.batch import Batch
from server.storage.database import current, rows, value
from server.storage.group_commit import Write, commit_group
from server.storage.jobs import Progress
from server.storage.many_rows import insert_rows
from server.storage.page_rows import Page
from server.storage.pages import Listed, Opening, Whole
from tests.builders import (
    NOW_MS,
    NOW_US,
    Stream,
    confirm_all,
    did,
    drop,
    follow,
    job_of,
    new_epoch,
    post,
    repost,
    tid,
    track,
    wipe,
)

pytestmark = pytest.mark.by_hand

NAMES = [f"author{number}" for number in range(9)]
VIEWERS = NAMES[:3]
# Some are followed in the end, others are replied to: which comes first, a group does not say.
FOLLOWED, STRANGERS = ["v", "w"], ["x", "y"]
ODD = ["odd one", "self"]
KEYS = [tid(number) for number in range(6)] + ODD
ROUNDS = 6
TABLES = {
    "feed_items": "id, author_id, rkey, flags, subject_id, subject_rkey, root_id, root_rkey",
    "follows": "viewer_id, rkey, subject_id",
    "repos": "author_id, state, wants, epoch, rev, chain_since, snapshot_rev, horizon_rkey,"
    " is_active, status, is_chained, newest_id, newest_media_id, loud_id, live_us, tracked_version",
    "backfill_jobs": "author_id, priority, not_before_us, attempts, last_error, progress",
    "tombstones": "author_id, collection, rkey, rev, is_alive",
    "outside_posts": "author_id, rkey, state, newest_key",
    "gaps": "author_id, reason, closed_us",
    "authors": "id, did, handle, pds_url, signing_key, checked_us",
}


class World:
    """The same for a seed: what the stream says, and between that what a few jobs write at once."""

    def __init__(self, seed):
        wipe()
        self.rng = random.Random(seed)  # noqa: S311  the same worlds in every run
        self.epoch = new_epoch()
        self.stream = Stream(self.epoch)
        # PostgreSQL would go on with its numbers in the next world.
        self.numbers = {name: n for n, name in enumerate([*NAMES, *FOLLOWED, *STRANGERS], 1)}
        insert_rows(
            "INSERT INTO authors (id, did)", [(n, did(name)) for name, n in self.numbers.items()]
        )
        insert_rows("INSERT INTO odd_rkeys (id, rkey)", list(enumerate(ODD, start=1)))
        track(*VIEWERS, wants=repos.ITEMS | repos.FOLLOWS)
        track(*NAMES[3:])
        self.old_jobs = {}
        # So that a PDS can be behind what comes after a reset.
        for _ in range(2):
            self.stream.save(Batch(commits=[self.stream.next(name) for name in NAMES]))
        self.stream.save(Batch(resets={did(name) for name in NAMES}))

    def happen(self):
        """What the stream says: commits, and now and then that it lost some."""
        for name in self.rng.sample(NAMES, 4):
            changes = [self.record(name) for _ in range(2)] + [drop(self.rng.choice(KEYS))]
            self.stream.save(Batch(commits=[self.stream.next(name, *_once(changes))]))
        for name in NAMES:
            self.old_jobs[name] = job_of(name, self.epoch) or self.old_jobs.get(name)
        self.stream.save(Batch(resets={did(name) for name in self.rng.sample(NAMES, 2)}))

    def record(self, name, collection=POST):
        key, n = self.rng.choice(KEYS), self.numbers[name]
        # No two at one place: which of them comes first depends on who is first.
        created_ms = NOW_MS - KEYS.index(key) * 1000 - n
        target = (self.rng.choice([*NAMES, *STRANGERS]), self.rng.choice(KEYS))
        if collection == REPOST:
            return repost(key, target, created_ms, tie=1)
        if collection == FOLLOW:
            return follow(key, self.rng.choice([*NAMES, *FOLLOWED]))
        return post(key, created_ms, tie=0, parent=self.rng.choice((None, target)))

    def job(self, name):
        """The job that there is, or one of before a reset; none if that was done."""
        job, old = job_of(name, self.epoch), self.old_jobs.get(name)
        epoch = value("SELECT epoch FROM repos WHERE author_id = ?", (self.numbers[name],))
        may = [one for one in (job, old) if one and (one is job or one.epoch != epoch)]
        return self.rng.choice(may) if may else None

    def page(self, name, collection):
        listed = _once([self.record(name, collection) for _ in range(self.rng.randrange(6))])
        upper, lower = self.rng.choice(((None, None), (None, KEYS[1]), (KEYS[4], KEYS[0])))
        return Page(collection, listed, {one.rkey for one in listed}, upper, lower)

    def write(self, name):
        """The next step of somebody's job, whichever."""
        job = self.job(name)
        if job is None:
            return None
        kind = self.rng.choice(
            ("open", "empty", "page", "page", "page", "partial", "whole", "gone", "home")
        )
        home = StoredIdentity(did(name), f"{name}.test", "https://pds.test", "key", NOW_US)
        write, changes = getattr(self, f"_{kind}")(name, job, self.rng.choice((None, home)))
        return Write(*write, job.author_id, changes)

    def _open(self, name, job, home):
        newest = [self.page(name, POST), self.page(name, REPOST)]
        changes = [change for page in newest for change in page.changes]
        rev = self.rng.randrange(1, 5)
        return (pages.open_repos, Opening(job, rev, newest, _begin, home)), changes

    def _empty(self, _name, job, home):
        return (pages.open_repos, Opening(job, self.rng.randrange(1, 9), (), _begin, home)), ()

    def _page(self, name, job, home):
        collections = (POST, REPOST, FOLLOW) if name in VIEWERS else (POST, REPOST)
        page = self.page(name, self.rng.choice(collections))
        progress = Progress({page.collection: self.rng.choice((None, KEYS[1]))})
        # As steps of jobs are: what waits in a crowd has not been listed.
        priority = self.rng.choice((repos.NEWEST_PAGE, repos.OLDER_PAGES))
        return (pages.commit_pages, Listed(job, page, progress, priority, home)), page.changes

    def _partial(self, _name, job, _home):
        return (pages.mark_partial, job), ()

    def _whole(self, _name, job, _home):
        return (pages.finish, Whole(job, self.rng.choice((0, 5)))), ()

    def _gone(self, _name, job, _home):
        return (pages.finish_inactive, (job, self.rng.choice(("deleted", "takendown")))), ()

    def _home(self, name, _job, _home):
        home = StoredIdentity(did(name), None, "https://new.test", None, NOW_US - 1)
        return (pages.remember_homes, home), ()

    def run(self, *, together):
        told = []
        for _ in range(ROUNDS):
            self.happen()
            confirm_all(self.epoch)
            writes = [w for name in self.rng.sample(NAMES, 7) if (w := self.write(name))]
            # A group saves what is alike at once, so in this order.
            kinds = list({write.save: None for write in writes})
            writes.sort(key=lambda write: kinds.index(write.save))
            if together:
                told += commit_group(writes, self.epoch, NOW_US)
            else:
                told += [commit_group([write], self.epoch, NOW_US)[0] for write in writes]
        return told, {
            table: sorted(map(repr, rows(f"SELECT {columns} FROM {table}")))  # noqa: S608
            for table, columns in TABLES.items()
        }


def _once(changes):
    return list({change.rkey: change for change in changes}.values())


def _begin(least):
    return Progress(floors=dict(sorted(least.items())))


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch):
    """Histories and lists of follows that are cut, too."""
    monkeypatch.setattr(pages, "MAX_ITEMS", 6)
    monkeypatch.setattr("server.storage.follows.MAX_FOLLOWS", 4)


def assert_alike(seeds):
    results = defaultdict(int)
    for seed in seeds:
        told, stored = World(seed).run(together=True)
        told_alone, stored_alone = World(seed).run(together=False)
        assert told == told_alone, f"seed {seed}"
        for table, found in stored.items():
            assert found == stored_alone[table], f"seed {seed}: {table}"
        for result in told:
            results[result] += 1
    assert {True, False, None, *pages.Snapshot} == set(results)


def test_a_group_leaves_what_its_writes_leave_alone_in_sqlite(sqlite):
    assert_alike(range(40))


def test_a_group_leaves_what_its_writes_leave_alone_in_postgresql(postgresql):
    assert_alike(range(100, 108))


def steps_of(names, epoch):
    """The first two steps of these authors' jobs, and the last."""
    jobs = {name: job_of(name, epoch) for name in names}
    for name, job in jobs.items():
        listed = [post(tid(n), NOW_MS - n * 100, tie=job.author_id) for n in range(3)]
        first = Page(POST, listed, {one.rkey for one in listed}, None, tid(0))
        home = StoredIdentity(did(name), None, "https://pds.test", "key", NOW_US)
        opening = Opening(job, 1, [first], lambda _least: Progress({POST: tid(0)}), home)
        rest = Page(POST, [post(tid(-5), NOW_MS - 900, tie=job.author_id)], {tid(-5)}, tid(0), None)
        yield (
            Write(pages.open_repos, opening, job.author_id, first.changes),
            Write(
                pages.commit_pages,
                Listed(job, rest, Progress(), repos.OLDER_PAGES),
                job.author_id,
                rest.changes,
            ),
            Write(pages.finish, Whole(job, 0), job.author_id),
        )


def statements(monkeypatch):
    """A list that every statement is added to."""
    seen = []
    execute_sql, many = type(current()).execute_sql, many_rows._execute_many

    def watched(self, sql, *rest, **options):
        seen.append(sql)
        return execute_sql(self, sql, *rest, **options)

    def watched_many(sql, values):
        seen.append(sql)
        return many(sql, values)

    monkeypatch.setattr(type(current()), "execute_sql", watched)
    monkeypatch.setattr(many_rows, "_execute_many", watched_many)
    return seen


def test_a_group_of_many_takes_the_statements_of_a_group_of_one(db, lease, monkeypatch):
    crowd = [f"one{number}" for number in range(40)]
    track(*crowd, "single")
    confirm_all(lease.epoch)
    # They are no round trips in SQLite, which takes rows in fewer at a time.
    monkeypatch.setattr(many_rows, "JOINED_ROWS", 256)
    seen = statements(monkeypatch)
    counts = []
    for names in (["single"], crowd):
        for writes in zip(*steps_of(names, lease.epoch), strict=True):
            seen.clear()
            commit_group(writes, lease.epoch, NOW_US)
            counts.append(len(seen))
    assert counts[:3] == counts[3:]
    assert all(0 < count < 40 for count in counts)
    assert rows("SELECT state, count(*) FROM repos GROUP BY state") == [(repos.LIVE, 41)]
    assert rows("SELECT count(*) FROM feed_items") == [(41 * 4,)]
