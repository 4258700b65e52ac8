"""Several sources read at once, as one stream: what one loses, the others bring.

Every event is taken from whoever tells it first; the same told again is dropped here. What needs
thought is order. A source that loses a commit of a repo tells the next one early, and to apply that
one would make the lost one old before the slower source brings it. So:

- A commit whose `since` is later than what was passed on has a predecessor that somebody may still
  tell. It waits, for HOLD_SECONDS at most. Then the predecessor is lost everywhere: the commit
  is passed on, its chain is broken, and its author is fetched again (storage/changes.py).
- A commit from a source without chains cannot say what came before. Each waits REORDER_SECONDS and
  those of a repo are passed on by rev. One that comes still later, when a later rev has been passed
  on without a chain to vouch for it, is not applied out of order: its author is fetched again.
  A chain that begins again behind such a one vouches for nothing that is older than itself.
- Beside a source with chains, the same is told twice, in two forms. The one with a chain goes first
  if it is there in time, and then the other waits no longer. What was passed on in one form is not
  late in the other; nor is a commit with nothing of ours in it, which only one of them tells.

What happened to an account is told with a time, which is that of its host and may be wrong, and in
an order, which is true of one source, and is that of its numbers. So an event that nobody told yet
is taken from a source that told the last one under a lower number, whatever the time; from one that
did not (it lost that one, or says again what is forgotten here), only if it is not older. What is
refused to one source counts as not told: another may be right to tell it. Such an event waits for
nothing, so it overtakes the commits that do: they are marked, or they would speak against it.
Before a `#sync` they go at once (`let_go`): it may tell of a repo that was put back. What a slower
source then tells of before that was taken back, or its host's clock is wrong: it is not passed on,
and its author is fetched again.
Of one moment by the host's clock, which may stand still, there may be several words that read the
same: what a source tells under a higher number than the same before is another one.

What waits is not saved, so the cursors of all who told it stay below it (`held_seq`), whoever was
first: after a crash any of them may be the one that is there. So does the time up to which they
vouch for others (`held_ms`): at the speed at which the past is read, they are hours further before
what waits has its turn. A source that comes back repeats what others told meanwhile; whatever is
older than MEMORY_SECONDS is then left to the revs in the database, which drop what they have seen.

Bounds: MEMORY_SECONDS of tracked authors' events, MAX_EVENTS of them; the oldest are forgotten, and
nothing is judged by what is not remembered. What was told since then is later than what any source
had reached by then: that holds whatever our clock says, and while the past is read.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from server.core.events import UNTOLD, Account, Commit, Event, Info, RecordOp, Skipped, Sync
from server.core.syntax import last_tid_of
from server.ingest.comparison import Comparison
from server.ingest.same import Key, key_of, other_keys_of
from server.storage import repos
from server.storage.batch import Batch, RepoCommit

HOLD_SECONDS = 5.0
REORDER_SECONDS = 2.0
# Longer than sources replay when they come back, so that a replay is known as one.
MEMORY_SECONDS = 300.0
MAX_EVENTS = 500_000
# How far the clocks in events may be off before they are taken for older or younger than they are.
CLOCK_SKEW_MS = 10_000


@dataclass(slots=True)
class _Held:
    commit: RepoCommit
    # Who told it, under which number.
    tellers: dict[str, int]
    time_ms: int
    since_s: float
    # How far the first to tell it had been read.
    reached_ms: int
    # What the same is where it is told in the other form, with or without a chain.
    other_keys: tuple[Key, ...]


@dataclass(slots=True)
class _Word:
    """The last that was said of an account, and who said it under which number."""

    key: Key
    time_ms: int
    tellers: dict[str, int]


class Merge:
    """What the sources of one group told lately. Times are monotonic, but for `*_ms`."""

    def __init__(self, comparison: Comparison, now_s: float, now_ms: int) -> None:
        self.comparison = comparison
        # Nobody told of anything later before what is remembered; and how far somebody had been
        # read when, since then.
        self.covered_from_ms = now_ms
        self.reached = deque([(now_s, now_ms)])
        self.seen: dict[Key, float] = {}
        # Of those that are no commits: the last number under which each source told it.
        self.numbers: dict[Key, dict[str, int]] = {}
        self.held: dict[str, dict[Key, _Held]] = {}
        # The newest rev of each repo that was passed on, and the newest up to which a chain vouches
        # that nothing is missing or the author is fetched again.
        self.passed: dict[str, tuple[int, int]] = {}
        self.words: dict[str, _Word] = {}
        # Of repos that a #sync put at a rev: that rev, and the last of what it may have taken back.
        self.put_back: dict[str, tuple[int, int]] = {}

    def is_new(self, source: str, event: Event, now_s: float, now_ms: int) -> bool:
        """Whether nobody has told this yet, nor anything that makes it old."""
        if isinstance(event, Info | Skipped):
            return False
        key = key_of(event)
        is_new = key not in self.seen
        is_another = not isinstance(event, Commit) and self._is_another(source, key, event.seq)
        if is_new or is_another:
            self.seen.pop(key, None)
            self.seen[key] = now_s
        if isinstance(event, Commit):
            is_covered = self._is_covered(event.time_ms)
            news = self._news_in(event, is_new=is_new) if is_covered else ()
            self.comparison.hear(source, event, now_s, news)
            held = self.held.get(event.repo, {}).get(key)
            if held is not None:
                held.tellers[source] = event.seq
        if isinstance(event, Account):
            return self._is_last_word(source, event, now_ms, is_new=is_new, is_another=is_another)
        return is_new or is_another

    def _news_in(self, event: Commit, *, is_new: bool) -> Sequence[RecordOp]:
        """The ops of a commit that nobody told in either form."""
        others = other_keys_of(event) * (len(event.ops) if event.since == UNTOLD else 1)
        told = (key in self.seen for key in others)
        return [op for op, is_told in zip(event.ops, told, strict=True) if is_new and not is_told]

    def _is_another(self, source: str, key: Key, seq: int) -> bool:
        """Whether the source has told the same before, as an earlier event."""
        numbers = self.numbers.setdefault(key, {})
        told_seq = numbers.get(source)
        numbers[source] = seq if told_seq is None else max(seq, told_seq)
        return told_seq is not None and told_seq < seq

    def _is_last_word(
        self, source: str, event: Account, now_ms: int, *, is_new: bool, is_another: bool
    ) -> bool:
        """Whether this changes what was last said of the account."""
        last, time_ms, key = self.words.get(event.repo), min(event.time_ms, now_ms), key_of(event)
        if last is not None and last.key == key:
            last.tellers[source] = event.seq
            return False
        is_older = last is not None and time_ms < last.time_ms
        if not is_new and (is_older or not is_another):
            return False
        if last is not None and is_older and not _goes_on(last, source, event.seq):
            del self.seen[key], self.numbers[key]
            return False
        self.words.pop(event.repo, None)
        self.words[event.repo] = _Word(key, time_ms, {source: event.seq})
        for one in self.held.get(event.repo, {}).values():
            one.commit = one.commit._replace(is_earlier=True)
        return True

    def hold(
        self, source: str, event: Commit, commit: RepoCommit, now_s: float, reached_ms: int
    ) -> None:
        """Take a commit in until its turn has come; its source has been read to `reached_ms`."""
        tellers, other_keys = {source: event.seq}, other_keys_of(event)
        held = _Held(commit, tellers, event.time_ms, now_s, reached_ms, other_keys)
        self.held.setdefault(event.repo, {})[key_of(event)] = held

    def held_seq(self, source: str) -> int | None:
        """The first event that the source told and that is not passed on yet, whoever was first."""
        seqs = [one.tellers[source] for one in self._waiting() if source in one.tellers]
        return min(seqs, default=None)

    def held_ms(self) -> int | None:
        """How far the sources had been read when the first of what still waits was told."""
        return min((one.reached_ms for one in self._waiting()), default=None)

    def _waiting(self) -> Iterator[_Held]:
        return (one for held in self.held.values() for one in held.values())

    def release(self, batch: Batch, now_s: float, reached_ms: int) -> None:
        """Pass on whatever has its turn; the furthest source has been read to `reached_ms`."""
        unknown = [repo for repo in self.held if repo not in self.passed]
        known = repos.known_revs(unknown) if unknown else {}
        for repo in list(self.held):
            if repo not in self.passed:
                self.passed[repo] = (known.get(repo, 0),) * 2
            self._release_repo(repo, batch, now_s)
        self._forget(now_s, reached_ms)

    def let_go(self, event: Sync, batch: Batch) -> None:
        """Pass on what waits of a repo that is fetched again, whatever is still missing."""
        for _, one in sorted(self.held.pop(event.repo, {}).items(), key=_place_in_line):
            batch.add_commit(one.commit)
        self.passed.pop(event.repo, None)
        until_rev = last_tid_of(event.time_ms)
        if event.rev and until_rev > self.put_back.get(event.repo, (0, 0))[1]:
            self.put_back[event.repo] = event.rev, until_rev

    def _release_repo(self, repo: str, batch: Batch, now_s: float) -> None:
        held = self.held[repo]
        waiting_rev = None
        for key, one in sorted(held.items(), key=_place_in_line):
            last_rev, vouched_rev = self.passed[repo]
            rev = one.commit.rev
            if waiting_rev is not None and rev > waiting_rev:
                break
            if not self._has_turn(one, now_s):
                waiting_rev = rev
                continue
            del held[key]
            put_back_rev, until_rev = self.put_back.get(repo, (0, 0))
            if put_back_rev < rev <= until_rev:
                batch.add_late(repo)
                continue
            if vouched_rev < rev < last_rev and self._is_news(one):
                batch.add_late(repo)
            batch.add_commit(one.commit)
            self.passed[repo] = _passed(last_rev, vouched_rev, one.commit)
        if not held:
            del self.held[repo]

    def _is_news(self, one: _Held) -> bool:
        """Whether something of ours may be in it that was not passed on before."""
        is_news = one.commit.hole is not None or not self._is_passed_in_other_form(one)
        # The clock of its host may be behind, or its source have told too little to say the time.
        return is_news and self._is_covered(max(one.time_ms, one.reached_ms))

    def _is_passed_in_other_form(self, one: _Held) -> bool:
        waiting = self.held[one.commit.repo]
        return all(key in self.seen and key not in waiting for key in one.other_keys)

    def _has_turn(self, one: _Held, now_s: float) -> bool:
        last_rev, vouched_rev = self.passed[one.commit.repo]
        waited_s = now_s - one.since_s
        if one.commit.since == UNTOLD:
            is_told = one.commit.rev <= vouched_rev or self._is_passed_in_other_form(one)
            # To go before the one with a chain would hide that this is broken.
            is_behind = one.other_keys[0] in self.held[one.commit.repo]
            return is_told or (not is_behind and waited_s >= REORDER_SECONDS)
        is_missing_one = 0 < last_rev < one.commit.since
        return not is_missing_one or waited_s >= HOLD_SECONDS

    def _is_covered(self, time_ms: int) -> bool:
        """Whether we would remember an event of that time, had anybody told it."""
        return time_ms > self.covered_from_ms + CLOCK_SKEW_MS

    def _forget(self, now_s: float, reached_ms: int) -> None:
        forgotten_s = now_s - MEMORY_SECONDS
        while self.seen:
            key, told_s = next(iter(self.seen.items()))
            if told_s > forgotten_s and len(self.seen) <= MAX_EVENTS:
                break
            del self.seen[key]
            self.numbers.pop(key, None)
            forgotten_s = max(forgotten_s, told_s)
        self.reached.append((now_s, reached_ms))
        if self.reached[0][0] <= forgotten_s:
            while self.reached and self.reached[0][0] <= forgotten_s:
                self.reached.popleft()
            self.covered_from_ms = self.reached[0][1] if self.reached else reached_ms
        for memory in (self.passed, self.words, self.put_back):
            while len(memory) > MAX_EVENTS:
                del memory[next(iter(memory))]


def _goes_on(last: _Word, source: str, seq: int) -> bool:
    """Whether the source told the last word, and this after it."""
    return source in last.tellers and last.tellers[source] <= seq


def _place_in_line(item: tuple[object, _Held]) -> tuple[int, bool, float]:
    one = item[1]
    return one.commit.rev, one.commit.since == UNTOLD, one.since_s


def _passed(last_rev: int, vouched_rev: int, commit: RepoCommit) -> tuple[int, int]:
    """What `Merge.passed` is of a repo, once this one is passed on as well."""
    passed_rev = max(last_rev, commit.rev)
    if commit.since == UNTOLD:
        return passed_rev, vouched_rev
    if 0 < commit.since <= vouched_rev:
        return passed_rev, max(vouched_rev, commit.rev)
    # A chain that breaks has its author fetched, unless it only begins again.
    return passed_rev, passed_rev if vouched_rev == last_rev else vouched_rev
