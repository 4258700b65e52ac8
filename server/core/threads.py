"""The official app's rule for replies in Following, for one reply and one viewer. Pure.

The same rule as `storage/filters.py` has it in SQL; tests hold the two against each other.
"""

from collections.abc import Callable
from typing import NamedTuple


class Thread(NamedTuple):
    """What a reply hangs on: its parent, and the root where that is another post.

    Accounts and record keys, as the database numbers them.
    """

    parent: int
    parent_rkey: int
    root: int | None
    root_rkey: int | None


class ThreadFacts(NamedTuple):
    """What is the same of a thread for all viewers.

    `grandparent`: whom the parent replies to, if that is known; `is_hidden`: that account is not
    shown; `is_gone`: the parent or the root is missing, as far as we can know.
    """

    grandparent: int | None
    is_hidden: bool
    is_gone: bool


def shows_reply(
    author: int, thread: Thread, facts: ThreadFacts, is_followed: Callable[[int], bool]
) -> bool:
    """Whether Following shows a reply of somebody followed.

    `is_followed`: by the viewer, or the viewer. Threads with oneself are shown; and replies where
    somebody else in it, parent, grandparent or root, is followed; but nothing that hangs on a
    missing post.
    """
    if facts.is_gone:
        return False
    parent, root, grandparent = thread.parent, thread.root, facts.grandparent
    if facts.is_hidden or grandparent == author:
        grandparent = None
    if parent == author and root in (None, author) and grandparent is None:
        return True
    others = (parent, root, grandparent)
    return any(other not in (None, author) and is_followed(other) for other in others)
