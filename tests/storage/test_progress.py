"""How far a job is, as it is stored: for this version of the program and the one before."""

import json

from server.core.syntax import FOLLOW, POST
from server.storage.jobs import Progress
from tests.builders import tid


def test_either_version_reads_what_the_other_wrote():
    progress = Progress({POST: tid(3), FOLLOW: None}, {POST: tid(1)}, {FOLLOW: tid(2)}, "home")
    before = json.dumps([progress.cursors, progress.floors, progress.horizons, "home"])
    assert Progress.decode(before) == progress
    progress.count(POST, 100)
    progress.count(POST, 20)
    assert Progress.decode(progress.encode()) == progress
    assert progress.listed == {POST: 120}
    # The version before takes four values, and of the first one those of the names that it knows.
    cursors, *others = json.loads(progress.encode())
    assert json.loads(before) == [{name: cursors[name] for name in (POST, FOLLOW)}, *others]
