"""Letting go of what nobody needs: viewers who stay away, authors nobody follows, the deleted.

Promises. A viewer who was not here for a while is a stranger again; so is, LONELY_US after somebody
noticed, an author whom no viewer follows and who is no viewer. Their rows go SLICE_ROWS at a time,
each slice in a transaction of its own that holds the repo and looks first whether it is still not
needed; so one who is followed again, or comes back, at any moment in between is tracked and
fetched anew, and nothing of that is deleted. A repo that is being backfilled is left alone, unless
its job has failed FAILED_ATTEMPTS times in a row.

The list of departures makes that exact: whoever writes a follow locks the repos of those on it
(`repos.track`), and nobody is let go who has not been on it for longer than any transaction lasts.
"""

from collections.abc import Iterable, Sequence

from server.core.projection import sort_key
from server.core.syntax import POST
from server.storage import follow_backs, gaps, leases, outside_posts, repos, tombstones, viewers
from server.storage.authors import StoredIdentity, author_id, save_identities
from server.storage.conflicts import retry_conflicts
from server.storage.database import execute, rows, value
from server.storage.items import COLLECTIONS
from server.storage.many_rows import execute_in, insert_rows, rows_in
from server.storage.newest import renew_newest
from server.storage.opening import patient_transaction
from server.storage.records import is_repost
from server.storage.repos import Repo
from server.storage.touched import touch

# How long an author stays whom nobody follows: who unfollows by mistake, or whose PDS shows no
# follows for an hour, loses nothing.
LONELY_US = 24 * 3_600_000_000
SLICE_ROWS = 1_000
FAILED_ATTEMPTS = 5


def note_lonely(after: int, limit: int, now_us: int) -> int:
    """Look at the next `limit` repos and list those that nobody needs; the last one, 0 at the end.

    What is listed is not yet decided: `depart` looks again.
    """
    slice_sql = "SELECT author_id FROM repos WHERE author_id > ? ORDER BY author_id LIMIT ?"
    numbers = [int(number) for (number,) in rows(slice_sql, (after, limit))]
    lonely = rows_in(
        "SELECT r.author_id FROM repos r WHERE r.state <> ?"
        " AND NOT EXISTS (SELECT 1 FROM follows f WHERE f.subject_id = r.author_id)"
        " AND NOT EXISTS (SELECT 1 FROM viewers v WHERE v.author_id = r.author_id)"
        " AND r.author_id",
        numbers,
        before=(repos.LET_GO,),
    )
    _list([number for (number,) in lonely], now_us)
    return numbers[-1] if len(numbers) == limit else 0


@retry_conflicts
def part_with_viewer(author_id: int, before_us: int, epoch: int, now_us: int) -> bool:
    """Make a viewer who was here last before then a stranger; False if they must stay."""
    with patient_transaction():
        leases.fence(epoch)
        repo = repos.load_repos([author_id]).get(author_id)
        if repo is None or not _is_at_rest(repo) or not viewers.forget(author_id, before_us):
            return False
        repos.want_items_only(repo)
        # Their follows, and those whom nobody else follows, are for later slices.
        _list([author_id], now_us)
    return True


def due(now_us: int, limit: int) -> list[int]:
    """Whose departure is to go on now."""
    sql = "SELECT author_id FROM departures WHERE due_us <= ? ORDER BY due_us LIMIT ?"
    return [int(number) for (number,) in rows(sql, (now_us, limit))]


@retry_conflicts
def depart(author_id: int, epoch: int, now_us: int) -> bool:
    """One slice of one departure; False when there is nothing more to do for it."""
    with patient_transaction():
        leases.fence(epoch)
        repo = repos.load_repos([author_id]).get(author_id)
        goes_on = repo is not None and (_drop_slice(repo, now_us) or _let_go(repo, now_us))
        if not goes_on:
            execute("DELETE FROM departures WHERE author_id = ?", (author_id,))
    return goes_on


@retry_conflicts
def purge(author_id: int, epoch: int) -> bool:
    """One slice of what a deleted account left behind; False when there is nothing more to do.

    For callers who know from its PDS or from the directory that it is gone. The repo stays tracked:
    if the account comes back, an event says so, and it is fetched anew.
    """
    with patient_transaction():
        leases.fence(epoch)
        repo = repos.load_repos([author_id]).get(author_id)
        # Whoever says otherwise meanwhile wins.
        if repo is None or repo.state != repos.LIVE or not repos.is_called_deleted(author_id):
            return False
        if repo.wants & repos.FOLLOWS:
            viewers.forget(author_id)
            repos.want_items_only(repo)
        if _drop_follows_of(author_id) or _drop_items_of(author_id) or _drop_marks_of(author_id):
            return True
        repos.set_status(author_id, is_active=False, status=repos.PURGED)
    return False


@retry_conflicts
def call(author_id: int, status: str, instead_of: str | None, epoch: int) -> None:
    """Somebody who knows better says why an account is hidden; who was faster still wins."""
    with patient_transaction():
        leases.fence(epoch)
        repos.load_repos([author_id])
        if repos.is_called(author_id, instead_of):
            repos.set_status(author_id, is_active=False, status=status)


@retry_conflicts
def remember_home(home: StoredIdentity) -> None:
    """What the directory said of an account, unless it was let go, or forgotten, meanwhile."""
    number = author_id(home.did)
    if number is None:
        return
    with patient_transaction():
        repo = repos.load_repos([number]).get(number)
        if repo is None or repo.state != repos.LET_GO:
            save_identities([home])


def gone_among(dids: Iterable[str]) -> set[str]:
    """Those of these accounts whose repos were let go."""
    found = rows_in(
        "SELECT a.did FROM authors a JOIN repos r ON r.author_id = a.id"
        " WHERE r.state = ? AND a.did",
        sorted(set(dids)),
        before=(repos.LET_GO,),
    )
    return {did for (did,) in found}


def _drop_follows_of(author_id: int) -> int:
    """Delete a slice of the follow records of somebody who is no viewer; how many."""
    sql = "SELECT rkey FROM follows WHERE viewer_id = ? LIMIT ?"
    keys = [rkey for (rkey,) in rows(sql, (author_id, SLICE_ROWS))]
    touch([author_id])
    return execute_in("DELETE FROM follows WHERE viewer_id = ? AND rkey", keys, (author_id,))


def _drop_items_of(author_id: int) -> list[tuple[int, int | None, int | None]]:
    """Delete a slice of an author's items; rkey, flags and subject of each."""
    sql = "SELECT id, rkey, flags, subject_id FROM feed_items WHERE author_id = ? LIMIT ?"
    found = rows(sql, (author_id, SLICE_ROWS))
    execute_in("DELETE FROM feed_items WHERE id", [row[0] for row in found])
    renew_newest([author_id])
    return [row[1:] for row in found]


def _drop_marks_of(author_id: int) -> int:
    """Delete a slice of the marks of an author none of whose rows is left; how many."""
    dropped = 0
    for collection in COLLECTIONS.values():
        of_kind = "FROM tombstones WHERE author_id = ? AND collection = ?"
        found = rows(f"SELECT rkey {of_kind} LIMIT ?", (author_id, collection, SLICE_ROWS))
        keys = [rkey for (rkey,) in found]
        dropped += execute_in(f"DELETE {of_kind} AND rkey", keys, (author_id, collection))
    return dropped


def _drop_slice(repo: Repo, now_us: int) -> bool:
    """Delete some of what nobody needs of a repo; False if there is nothing of that kind."""
    number = repo.author_id
    is_gone = repo.state == repos.LET_GO
    if (is_gone or not repo.wants & repos.FOLLOWS) and _drop_follows_of(number):
        return True
    if not is_gone:
        return False
    # Before the items: which of them came back, these tell.
    deleted = tombstones.take_deleted(number, COLLECTIONS[POST], SLICE_ROWS)
    outside_posts.remember_gone(deleted, now_us)
    if deleted:
        return True
    dropped = _drop_items_of(number)
    now_key = sort_key(now_us // 1000, 0)
    posts = ((rkey, to) for rkey, flags, to in dropped if not is_repost(flags))
    outside_posts.remember((number, rkey, to, now_key) for rkey, to in posts)
    return bool(dropped) or _drop_marks_of(number) > 0


def _let_go(repo: Repo, now_us: int) -> bool:
    if repo.state == repos.LET_GO or not _is_at_rest(repo) or not _is_lonely(repo.author_id):
        return False
    repos.let_go(repo.author_id)
    # Nobody hears any more whom they follow.
    follow_backs.doubt([repo.author_id], now_us)
    # Nobody misses anything of theirs any more.
    gaps.close_for_authors([repo.author_id], now_us)
    return True


def _is_at_rest(repo: Repo) -> bool:
    """Whether nobody is fetching the repo, with a hope of success."""
    if repo.state == repos.LIVE:
        return True
    attempts = value("SELECT attempts FROM backfill_jobs WHERE author_id = ?", (repo.author_id,))
    return attempts is not None and int(attempts) >= FAILED_ATTEMPTS


def _is_lonely(author_id: int) -> bool:
    sql = (
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM follows WHERE subject_id = ?)"
        " OR EXISTS (SELECT 1 FROM viewers WHERE author_id = ?)"
    )
    return value(sql, (author_id, author_id)) is None


def _list(author_ids: Sequence[int], now_us: int) -> None:
    insert_rows(
        "INSERT INTO departures (author_id, due_us)",
        [(number, now_us + LONELY_US) for number in author_ids],
        "ON CONFLICT (author_id) DO NOTHING",
    )
