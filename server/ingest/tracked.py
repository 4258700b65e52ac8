"""The repos whose commits are wanted, in memory: a copy of what the database says."""

from server.core.projection import Change, SaveFollow
from server.storage import repos


class TrackedSet:
    """DIDs and what is wanted of each. Exact: no other repo is in it, and none is missing.

    `version` is that of the newest change that is in; see storage/repos.py.
    """

    def __init__(self) -> None:
        self.version = 0
        self.wants: dict[str, int] = {}

    def refresh(self) -> None:
        """Take in what the database changed since."""
        for repo in repos.tracked_since(self.version):
            if repo.wants:
                self.wants[repo.did] = repo.wants
            else:
                self.wants.pop(repo.did, None)
            self.version = max(self.version, repo.tracked_version)

    def concerns(self, repo: str, change: Change) -> bool:
        """Whether a change of a tracked repo is for us: of a follow, if a viewer is at one end."""
        if not isinstance(change, SaveFollow):
            return True
        wants = self.wants.get(repo, 0) | self.wants.get(change.subject, 0)
        return bool(wants & repos.FOLLOWS)
