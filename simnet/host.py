"""One host's repos and its stream, without HTTP: who lives here, what changes, who hears of it."""

from collections.abc import Callable, Iterable

from simnet import frames
from simnet.event_log import Window
from simnet.faults import Faults
from simnet.repo import Commit, Ref, Write
from simnet.stream import Stream
from simnet.world import AccountState, World

Listener = Callable[[int, str, frames.Body, Commit | None], None]


class Host:
    """What a PDS does. `listener` is the relay that crawls it."""

    def __init__(
        self,
        index: int,
        world: World,
        clock: Callable[[], int],
        faults: Faults,
        listener: Listener,
        window: Window | None = None,
    ) -> None:
        self.index = index
        self.name = f"pds{index}"
        self.world = world
        self.clock = clock
        self.faults = faults
        self.stream = Stream(self.name, clock, faults, announces_cursor_trouble=True, window=window)
        self._listener = listener

    def commit(
        self,
        state: AccountState,
        writes: Iterable[Write],
        *,
        at_us: int | None = None,
        emit: bool = True,
    ) -> tuple[Commit, list[Ref]]:
        """Change a repo, then tell of it. Without `emit` nobody is told."""
        with self.world.lock:
            now_us = self.clock() if at_us is None else at_us
            commit, refs = state.repo.commit(writes, now_us)
            for ref in refs if emit else ():
                self.world.emitted_us[ref.uri] = now_us
            if emit:
                self.emit("#commit", frames.commit(commit, now_us), commit)
            return commit, refs

    def emit(self, kind: str, body: frames.Body, commit: Commit | None = None) -> None:
        """Put an event on this host's stream, and on the relay's."""
        with self.world.lock:
            self.stream.append(kind, body, commit)
            self._listener(self.index, kind, body, commit)

    def status_of(self, state: AccountState) -> str | None:
        """What this host says about an account; None: never heard of it."""
        status = state.status if state.pds == self.index else state.former.get(self.index)
        return None if status == "deleted" else status

    def hosted(self, name: str) -> AccountState | None:
        """An account by DID or handle if its repo can be read here."""
        state = self.world.find(name)
        return state if state and self.status_of(state) == "active" else None
