"""The one transaction of a batch of the stream: its rows and its cursor, or nothing.

Promises. After `commit_batch` returns, everything up to the cursor is saved; if it raises, nothing
is. Rerunning a batch changes nothing: a commit at or before the rev that we have of its repo is
passed over. A commit that does not continue the one before it opens a gap for its author, and is
still applied; its repo is then read anew from a state that has all the commits we saw of it, since
an older one would take away what they brought (see pages.BEHIND_ATTEMPTS for how long). A `#sync`
asks for no such thing: it tells of repos that were put back to an earlier state as well, and what
they deleted since that state, they may have again (tombstones.put_back).
Where a batch ends makes no difference to what is there, what is hidden and who has a gap.
Somebody else's lead raises LeaseLost before anything is written.

Some sources show no chain, and a commit in pieces (core/events.py: UNTOLD). A rev that came from
there is not `is_chained`: what else has the same rev is applied too, and the commit that comes
after it proves nothing. With that one a chain begins anew, and the repo is RECHAINED until it has
been compared with its PDS (backfill/reconcile.py): what was left out before it is older than the
rev that we have, and would be passed over even if another source told it now.
"""

from collections.abc import Sequence
from dataclasses import replace

from server.core.events import UNTOLD
from server.core.projection import Change, DropRecord, SaveFollow, SaveItem
from server.core.syntax import FOLLOW
from server.storage import authors, follow_backs, gaps, items, leases, repos, tombstones
from server.storage.batch import Batch, BatchResult, RepoCommit
from server.storage.conflicts import retry_conflicts
from server.storage.crash_points import crash_point
from server.storage.cursors import StreamCursor, forget_cursor, save_cursor
from server.storage.follows import drop_follows, save_told
from server.storage.items import COLLECTIONS, Names
from server.storage.opening import patient_transaction
from server.storage.records import Key
from server.storage.repos import LIVE, PENDING, Repo

# Why an author is fetched again whose commit came after the word that the account is not there.
INACTIVE = "commit of an inactive account"


@retry_conflicts
def commit_batch(
    batch: Batch,
    cursor: StreamCursor,
    epoch: int,
    now_us: int,
    *,
    beside: Sequence[StreamCursor] = (),
) -> BatchResult:
    """Save a batch and its cursor. Raises LeaseLost, or DatabaseError; then nothing is saved.

    `beside` are the cursors of other sources that the batch came from as well.
    """
    parts = list(batch.parts())
    changes = [change for part in parts for commit in part.commits for change in commit.changes]
    dids = {did for part in parts for did in part.accounts()}
    names = items.name(changes, dids)
    crash_point("batch: accounts numbered")
    with patient_transaction():
        leases.fence(epoch)
        # All at once, so that they are locked in the order in which everybody locks them.
        locked = repos.load_repos(names.authors[did] for did in dids)
        result = BatchResult()
        for part in parts:
            result.add(_apply(part, names, locked, cursor, now_us))
            if part.then:
                locked = repos.load_repos(names.authors[did] for did in part.then.accounts())
        crash_point("batch: inside")
        for place in (cursor, *beside):
            save_cursor(place, now_us)
    crash_point("batch: committed")
    return result


def _apply(
    part: Batch, names: Names, locked: dict[int, Repo], cursor: StreamCursor, now_us: int
) -> BatchResult:
    # The reader may not know yet that one of them was let go.
    known = {number: repo for number, repo in locked.items() if repo.state != repos.LET_GO}
    work = _Work(names, known)
    for commit in part.commits:
        work.add(commit)
    for did in part.resets:
        work.hole(names.authors[did], "sync")
    later = {commit.repo for commit in part.commits if not commit.is_earlier}
    for did in part.late:
        work.hole(names.authors[did], "told late", is_earlier=did not in later)
    result = work.write(now_us)
    back = {names.authors[did]: revs for did, revs in part.put_back.items()}
    tombstones.put_back([(number, *revs) for number, revs in back.items() if number in known])
    statuses = work.words() | _statuses(part, names, known, result.holes)
    seen = work.seen_of_holes({names.authors[did] for did in part.resets})
    if part.identities:
        authors.outdate_identities(part.identities, now_us)
    gaps.open_for_authors(result.holes.items(), cursor.host, cursor.event_ms, now_us)
    repos.require_revs(seen)
    # After the holes, which take what was said before them for a PDS's word.
    repos.set_statuses([(number, *said) for number, said in statuses.items()])
    return result


@retry_conflicts
def void_chains(epoch: int) -> None:
    """What comes from a source with chains now follows on one without: see repos.void_chains."""
    with patient_transaction():
        leases.fence(epoch)
        repos.void_chains()


@retry_conflicts
def commit_gap(host: str, reason: str, from_ms: int, to_ms: int, epoch: int, now_us: int) -> None:
    """Write a hole of everybody down, and forget the cursor that led into it.

    Everybody's repos are written: that may take longer than any other statement may.
    """
    crash_point("gap: not yet written")
    with patient_transaction():
        leases.fence(epoch)
        gaps.open_for_all(host, reason, from_ms, to_ms, now_us)
        crash_point("gap: inside")
        forget_cursor(host, now_us)
    crash_point("gap: opened")


class _Work:
    """The net effect of a batch: the last word on each record, and the rev of each repo."""

    def __init__(self, names: Names, known: dict[int, Repo]) -> None:
        self.names = names
        self.known = known
        self.moved: dict[int, Repo] = {}
        self.holes: dict[int, str] = {}
        # Who is not there by a word that was told before something that speaks against it.
        self.doubted: set[int] = set()
        self.last: dict[Key, tuple[Change, int]] = {}
        self.reborn: set[Key] = set()
        self.already_seen = 0
        # By whom, in the stream's order: these may name a viewer whom their author follows.
        self.follows: list[tuple[int, Change]] = []

    def add(self, commit: RepoCommit) -> None:
        number = self.names.authors[commit.repo]
        repo = self.known.get(number)
        if repo is None:
            return
        last_rev = max(repo.rev, repo.snapshot_rev)
        is_chained = commit.since != UNTOLD
        # Seen already: in a replay, or in what a backfill has read.
        if commit.rev < last_rev or (commit.rev == last_rev and repo.is_chained):
            self.already_seen += 1
            return
        if repo.rev == 0:
            # Where no chain is shown, only a snapshot that has this commit itself is sure to be
            # continued by it.
            repo.chain_since = commit.since if is_chained else commit.rev
        self._note_holes(repo, commit, last_rev)
        repo.rev = commit.rev
        repo.is_chained = (repo.is_chained or repos.RECHAINED) if is_chained else repos.UNCHAINED
        self.moved[number] = repo
        for change in commit.changes:
            collection = FOLLOW if isinstance(change, SaveFollow) else change.collection
            if collection == FOLLOW:
                self.follows.append((number, change))
                if not repo.wants & repos.FOLLOWS:
                    continue
            key = (number, self.names.rkeys[change.rkey], COLLECTIONS[collection])
            self.last[key] = (self._follow_up(key, change), commit.rev)

    def _note_holes(self, repo: Repo, commit: RepoCommit, last_rev: int) -> None:
        # Sources pass on no commits of inactive accounts: what we believe is out of date.
        is_doubt = not (repo.is_active or commit.is_earlier or _is_being_settled(repo))
        reason = INACTIVE if is_doubt else commit.hole
        if last_rev and repo.is_chained and commit.since not in (last_rev, UNTOLD):
            reason = "chain"
        if reason is None:
            return
        if repo.state == PENDING and repo.snapshot_rev == 0:
            # Nothing has been read that the hole could spoil: what is read must only be newer. So
            # a job that waits for a failing PDS goes on waiting.
            repo.chain_since = commit.rev
            if is_doubt:
                self.doubted.add(repo.author_id)
        else:
            self.hole(repo.author_id, reason, is_earlier=commit.is_earlier)

    def _follow_up(self, key: Key, change: Change) -> Change:
        """The change as it is after an earlier one of the same record in this batch."""
        earlier = self.last.get(key, (None, 0))[0]
        if isinstance(change, SaveItem):
            if isinstance(earlier, SaveItem):
                created_ms = min(earlier.created_ms, change.created_ms)
                sort_ms = min(earlier.sort_ms, change.created_ms)
                return replace(change, created_ms=created_ms, sort_ms=sort_ms)
            if isinstance(earlier, DropRecord):
                # A new record under an old key: it does not inherit the place.
                self.reborn.add(key)
        return change

    def hole(self, number: int, reason: str, *, is_earlier: bool = False) -> None:
        if number in self.known:
            self.holes.setdefault(number, reason)
            if not is_earlier:
                self.doubted.add(number)

    def words(self) -> dict[int, tuple[bool, str | None]]:
        """Who is not there, where that was doubted (then a PDS says so), or a hole was told."""
        said: dict[int, tuple[bool, str | None]] = {}
        for number in self.holes.keys() | self.doubted:
            repo = self.known[number]
            if not repo.is_active:
                is_doubted = number in self.doubted
                said[number] = (False, _weaker(repo.status) if is_doubted else repo.status)
        return said

    def seen_of_holes(self, synced: set[int]) -> list[Repo]:
        """The repos to be read anew, at the last commit seen of each; but not those `synced`."""
        return [self.known[n] for n in self.holes if n not in synced and self.known[n].rev]

    def write(self, now_us: int) -> BatchResult:
        marks = tombstones.load(self.last)
        saves: dict[Key, SaveItem] = {}
        follows: dict[Key, SaveFollow] = {}
        drops: dict[Key, int] = {}
        for key, (change, rev) in self.last.items():
            mark = marks.get(key)
            if mark is not None and mark[0] > rev:
                continue
            if isinstance(change, DropRecord):
                drops[key] = rev
            elif isinstance(change, SaveItem):
                saves[key] = change
            else:
                follows[key] = change
        reborn = self.reborn & saves.keys()
        items.drop_items(k for k in drops.keys() | reborn if k[2] != COLLECTIONS[FOLLOW])
        drop_follows(k for k in drops if k[2] == COLLECTIONS[FOLLOW])
        items.save_items(saves, self.names)
        save_told(follows, self.names, now_us)
        follow_backs.apply(self.follows, self.names, now_us)
        self._mark(saves.keys() | follows.keys(), drops, marks.keys(), now_us)
        repos.save_revs(self.moved.values())
        return BatchResult(len(saves) + len(follows), len(drops), self.already_seen, self.holes)

    def _mark(self, saved: set[Key], drops: dict[Key, int], marked: object, now_us: int) -> None:
        """While a repo is backfilled, what the stream writes is marked; deletes always are."""
        writes = {key: (rev, False) for key, rev in drops.items()}
        settled: list[Key] = []
        for key in saved:
            if self.known[key[0]].state == LIVE:
                settled += [key] if key in marked else []  # type: ignore[operator]
            else:
                writes[key] = (self.last[key][1], True)
        tombstones.write(writes, now_us)
        tombstones.forget(settled)


def _statuses(
    part: Batch, names: Names, known: dict[int, Repo], holes: dict[int, str]
) -> dict[int, tuple[bool, str | None]]:
    """Whom to hide and show. One that comes back is fetched again: it may have changed unseen."""
    said: dict[int, tuple[bool, str | None]] = {}
    for did, (is_active, status) in part.statuses.items():
        number = names.authors[did]
        repo = known.get(number)
        if repo is None:
            continue
        # A backfill under way may have been told that the account is not there.
        if is_active and not (repo.is_active and repo.state == LIVE):
            holes.setdefault(number, "reactivated")
        said[number] = (is_active, status)
    return said


def _is_being_settled(repo: Repo) -> bool:
    """Whether the repo is being read, and ends by saying whether the account is there."""
    return repo.state != LIVE and (repo.status or "").startswith(repos.PDS_SAYS)


def _weaker(status: str | None) -> str:
    """A word on an account as a PDS's word, which a backfill may take back."""
    word = status or "unknown"
    return word if word.startswith(repos.PDS_SAYS) else repos.PDS_SAYS + word
