"""The official app's rule for replies in Following, for one reply and one viewer. Pure.

The same rule as `storage/filters.py` has it in SQL; tests hold the two against each other.
"""

from collections.abc import Callable
from typing import NamedTuple


class Thread(NamedTuple):
    """A reply's author, and what it hangs on: its parent, and the root where that is another post.

    Accounts and record keys, as the database numbers them.
    """

    author: int
    parent: int
    parent_rkey: int
    root: int | None
    root_rkey: int | None


def others_in(
    thread: Thread, *, grandparent: int | None, is_hidden: bool, is_gone: bool
) -> tuple[int, ...] | None:
    """Who else is in it: of parent, root and grandparent, those who are not the author.

    `grandparent`: whom the parent replies to, if that is known; `is_hidden`: that account is not
    shown. None if it hangs on nothing (`is_gone`: the parent or the root is missing, as far as we
    can know).
    """
    if is_gone:
        return None
    named = (thread.parent, thread.root, None if is_hidden else grandparent)
    return tuple({one for one in named if one is not None and one != thread.author})


def shows_reply(others: tuple[int, ...] | None, is_followed: Callable[[int], bool]) -> bool:
    """Whether Following shows a reply of somebody followed. `is_followed`: or is the viewer.

    Threads with oneself are shown; and replies where somebody else in it is followed; but nothing
    that hangs on a missing post.
    """
    if others is None:
        return False
    # Not any(): it takes twice as long, and this is asked of every reply on a page.
    for other in others:
        if is_followed(other):
            return True
    return not others
