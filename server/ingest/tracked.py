"""The repos whose commits are wanted, in memory: a copy of what the database says.

Exact: after `refresh` no other repo is in it, and none is missing that was tracked when it began. A
refresh that fails in the middle is repeated from its beginning. Bounds: some 130 bytes for each
repo, so 260 MB for two million, and one page of them while reading.
"""

from server.core.projection import Change, SaveFollow
from server.storage import repos


class TrackedSet:
    """DIDs and what is wanted of each.

    `version` is that of the newest change that is in; see storage/repos.py.
    """

    def __init__(self) -> None:
        self.version = 0
        self.wants: dict[str, int] = {}

    def refresh(self) -> None:
        """Take in what the database changed since."""
        version = self.version
        for repo in repos.tracked_since(version):
            if repo.wants:
                self.wants[repo.did] = repo.wants
            else:
                self.wants.pop(repo.did, None)
            version = repo.tracked_version
        # Only now: many repos share a version, and half of them would be taken for all.
        self.version = version

    def concerns(self, repo: str, change: Change, *, is_edit: bool = False) -> bool:
        """Whether a change of a tracked repo is for us: of a follow, if a viewer is at one end.

        One that was edited or undone may have had a viewer there, and only the database knows.
        """
        if is_edit or not isinstance(change, SaveFollow):
            return True
        wants = self.wants.get(repo, 0) | self.wants.get(change.subject, 0)
        return bool(wants & repos.FOLLOWS)
