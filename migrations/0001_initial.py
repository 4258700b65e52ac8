"""The first schema: every table, with what its columns mean.

Names that end in `_us` are microseconds since 1970, in `_ms` milliseconds. `rkey` columns hold the
number of a TID; a record key that is no TID stands in `odd_rkeys` and is written as minus its id
there. `rev` columns hold the number of a TID, or 0 where none is known.
"""

from peewee import SqliteDatabase

# One statement a string; {…} is filled in for the database at hand, see up().
STATEMENTS = [
    # Every account that anything here speaks of; identity only where we needed it. checked_us: when
    # its document was asked for; negative: when the stream said that it may have changed since.
    """CREATE TABLE authors (
        id {serial} PRIMARY KEY,
        did TEXT NOT NULL UNIQUE,
        handle TEXT,
        pds_url TEXT,
        signing_key TEXT,
        checked_us BIGINT)""",
    "CREATE INDEX authors_outdated ON authors (id) WHERE checked_us <= 0",
    # The repos that we follow on the stream. state: 0 let go, 1 nothing fetched yet, 2 newest page
    # fetched, 3 complete. wants: 1 posts and reposts, 2 follows as well (a viewer's repo).
    # snapshot_rev: the rev that a backfill under way reads at least. horizon_rkey: it is, or was
    # before the last reset, complete down to this TID (at first: to none). chain_since: what a
    # snapshot has to reach, so that nothing lies between it and what the stream showed since.
    # live_us: when its last backfill ended; what came later was heard on the stream.
    # is_chained: the next commit has to continue rev, or one is missing.
    # newest_id: of the author's feed_items, exactly; newest_media_id: of those with pictures or
    # video. -1 if there are none.
    """CREATE TABLE repos (
        author_id INTEGER NOT NULL PRIMARY KEY,
        state SMALLINT NOT NULL,
        wants SMALLINT NOT NULL,
        epoch INTEGER NOT NULL,
        tracked_version BIGINT NOT NULL,
        is_active SMALLINT NOT NULL DEFAULT 1,
        status TEXT,
        rev BIGINT NOT NULL DEFAULT 0,
        chain_since BIGINT NOT NULL DEFAULT 0,
        snapshot_rev BIGINT NOT NULL DEFAULT 0,
        is_chained SMALLINT NOT NULL DEFAULT 1,
        horizon_rkey BIGINT NOT NULL DEFAULT 9223372036854775807,
        live_us BIGINT,
        newest_id BIGINT NOT NULL DEFAULT -1,
        newest_media_id BIGINT NOT NULL DEFAULT -1)""",
    "CREATE INDEX repos_tracked_version ON repos (tracked_version, author_id)",
    "CREATE INDEX repos_inactive ON repos (author_id) WHERE is_active = 0",
    # Posts (collection 0) and reposts (1). id is the sort key: core/projection.py. subject: what is
    # reposted, or the parent of a reply. root: of the thread, where that is not the parent. Wide
    # columns stand first, and narrow ones together: PostgreSQL fills up to eight bytes.
    """CREATE TABLE feed_items (
        id {bigint_key} NOT NULL PRIMARY KEY,
        rkey BIGINT NOT NULL,
        subject_rkey BIGINT,
        root_rkey BIGINT,
        author_id INTEGER NOT NULL,
        subject_id INTEGER,
        root_id INTEGER,
        collection SMALLINT NOT NULL,
        flags SMALLINT NOT NULL)""",
    "CREATE UNIQUE INDEX feed_items_record ON feed_items (author_id, collection, rkey)",
    "CREATE INDEX feed_items_author ON feed_items ({author_order})",
    # Pictures and video are one in seven, and a feed of their own: storage/filters.py.
    "CREATE INDEX feed_items_media ON feed_items ({author_order})"
    " WHERE collection = 0 AND flags & 2 <> 0",
    "CREATE TABLE odd_rkeys (id {serial} PRIMARY KEY, rkey TEXT NOT NULL UNIQUE)",
    # One row a follow record: several may name one subject.
    """CREATE TABLE follows (
        viewer_id INTEGER NOT NULL,
        rkey BIGINT NOT NULL,
        subject_id INTEGER NOT NULL,
        PRIMARY KEY (viewer_id, rkey)) {by_key}""",
    "CREATE INDEX follows_subject ON follows (viewer_id, subject_id)",
    "CREATE INDEX follows_followers ON follows (subject_id)",
    # Who follows a viewer back, as far as anybody has told: rkey is that of their follow record,
    # NULL if there is none. checked_us: when that was said.
    """CREATE TABLE follow_backs (
        viewer_id INTEGER NOT NULL,
        author_id INTEGER NOT NULL,
        rkey BIGINT,
        checked_us BIGINT NOT NULL,
        PRIMARY KEY (viewer_id, author_id)) {by_key}""",
    "CREATE INDEX follow_backs_record ON follow_backs (author_id, rkey)",
    # What the stream deleted, and (is_alive) what it brought to life while a backfill was reading:
    # both at `rev`, so that a page read earlier cannot undo them. Collection 2 is follows.
    """CREATE TABLE tombstones (
        author_id INTEGER NOT NULL,
        collection SMALLINT NOT NULL,
        rkey BIGINT NOT NULL,
        rev BIGINT NOT NULL,
        is_alive SMALLINT NOT NULL,
        written_us BIGINT NOT NULL,
        PRIMARY KEY (author_id, collection, rkey)) {by_key}""",
    "CREATE INDEX tombstones_written ON tombstones (written_us)",
    # Posts of people whom nobody here follows, that replies of people we follow hang on. state: 0
    # to be looked up, 1 there, 2 not there, 3 nobody can tell. parent_id: whom it replies to
    # itself. newest_key: the place of the newest reply that asked.
    """CREATE TABLE outside_posts (
        author_id INTEGER NOT NULL,
        rkey BIGINT NOT NULL,
        state SMALLINT NOT NULL DEFAULT 0,
        parent_id INTEGER,
        newest_key BIGINT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        not_before_us BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (author_id, rkey)) {by_key}""",
    "CREATE INDEX outside_posts_wanted ON outside_posts (newest_key) WHERE state = 0",
    # The last event of each source whose changes are saved; a Jetstream's is numbered by its time
    # in microseconds. event_ms: everything that happened before is saved. has_chain: the source
    # shows which commit continues which.
    """CREATE TABLE stream_cursors (
        host TEXT NOT NULL PRIMARY KEY,
        seq BIGINT NOT NULL,
        event_ms BIGINT NOT NULL,
        has_chain SMALLINT NOT NULL DEFAULT 1,
        written_us BIGINT NOT NULL)""",
    # mutuals_due_us: when to look up next who follows back; NULL: they open no feed that asks.
    # mutuals_tried_us: when that was first done, or failed.
    """CREATE TABLE viewers (
        author_id INTEGER NOT NULL PRIMARY KEY,
        first_us BIGINT NOT NULL,
        last_us BIGINT NOT NULL,
        mutuals_due_us BIGINT,
        mutuals_tried_us BIGINT)""",
    "CREATE INDEX viewers_last ON viewers (last_us)",
    "CREATE INDEX viewers_mutuals_due ON viewers (mutuals_due_us) WHERE mutuals_due_us IS NOT NULL",
    # How far a viewer has read in a feed that is read from the bottom: the sort key of the last
    # item seen.
    """CREATE TABLE read_positions (
        viewer_id INTEGER NOT NULL,
        feed TEXT NOT NULL,
        sort_key BIGINT NOT NULL,
        written_us BIGINT NOT NULL,
        PRIMARY KEY (viewer_id, feed)) {by_key}""",
    # Repos that nobody needs any more, to be looked at again, and let go, at due_us.
    """CREATE TABLE departures (
        author_id INTEGER NOT NULL PRIMARY KEY,
        due_us BIGINT NOT NULL)""",
    "CREATE INDEX departures_due ON departures (due_us)",
    # priority: 0 a viewer's follows, 1 an author's newest page, 2 the rest of it. progress: how far
    # each collection is listed, as JSON.
    """CREATE TABLE backfill_jobs (
        author_id INTEGER NOT NULL PRIMARY KEY,
        priority SMALLINT NOT NULL,
        not_before_us BIGINT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        progress TEXT,
        last_error TEXT)""",
    "CREATE INDEX backfill_jobs_due ON backfill_jobs (priority, not_before_us)",
    # What we might miss: of one author, or (author_id NULL) of everybody tracked up to
    # tracked_version. Open until closed_us. detail: what was found, where somebody looked.
    """CREATE TABLE gaps (
        id {serial} PRIMARY KEY,
        author_id INTEGER,
        host TEXT,
        reason TEXT NOT NULL,
        detail TEXT,
        from_ms BIGINT NOT NULL,
        to_ms BIGINT NOT NULL,
        tracked_version BIGINT NOT NULL,
        opened_us BIGINT NOT NULL,
        closed_us BIGINT)""",
    "CREATE INDEX gaps_open ON gaps (author_id) WHERE closed_us IS NULL",
    # Who leads. epoch fences late writers; confirmed_version is the newest tracked_version that
    # the leader's stream reader is known to have in its set.
    """CREATE TABLE leases (
        name TEXT NOT NULL PRIMARY KEY,
        epoch INTEGER NOT NULL,
        holder TEXT NOT NULL,
        acquired_us BIGINT NOT NULL,
        alive_us BIGINT NOT NULL,
        connected_us BIGINT,
        confirmed_version BIGINT NOT NULL DEFAULT -1)""",
    # What the leader has counted since it leads, as Prometheus text, for whoever is asked for it.
    """CREATE TABLE exported_metrics (
        name TEXT NOT NULL PRIMARY KEY,
        epoch INTEGER NOT NULL,
        written_us BIGINT NOT NULL,
        body TEXT NOT NULL)""",
    # Work that goes round and round, a slice at a time: the author it has come to (0: it rests
    # between two rounds), and when this round began.
    """CREATE TABLE rounds (
        name TEXT NOT NULL PRIMARY KEY,
        author_id INTEGER NOT NULL,
        began_us BIGINT NOT NULL)""",
    # The last hour in numbers, for the charts of /status: storage/history.py.
    """CREATE TABLE history (
        at_us BIGINT NOT NULL PRIMARY KEY,
        lag_ms BIGINT,
        frames BIGINT NOT NULL,
        waiting INTEGER NOT NULL,
        items BIGINT NOT NULL)""",
    # Numbers that are given out in the order of commits: their row is locked until the commit.
    "CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO counters (name, value) VALUES ('tracked', 0)",
]


def up(_migrator, db):
    if isinstance(db, SqliteDatabase):
        # INTEGER makes `id` the row's own number, which SQLite appends to every index: an index on
        # the author alone then carries the order.
        words = {
            "serial": "INTEGER",
            "bigint_key": "INTEGER",
            "author_order": "author_id",
            "by_key": "WITHOUT ROWID",
        }
    else:
        words = {
            "serial": "INTEGER GENERATED BY DEFAULT AS IDENTITY",
            "bigint_key": "BIGINT",
            "author_order": "author_id, id",
            "by_key": "",
        }
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**words))
