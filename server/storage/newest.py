"""Each repo names its newest item, and its newest picture: a first page begins there.

And the one item that says whether its author is quiet (`loud_id`): the newest but QUIET_ITEMS. As
long as that stands in the days that count, they have written more. Its place does not change as
time goes by, so it is exact at any moment, in any page of any viewer.

They are renewed from the items, never added up, so that they cannot drift; whoever writes or
deletes items, or changes what they show, does it in the same transaction.
"""

from collections.abc import Iterable

from server.core.feed import QUIET_ITEMS
from server.core.projection import MEDIA
from server.storage.many_rows import execute_in
from server.storage.touched import touch

# The condition on an item `i` that it shows pictures or video; the index feed_items_media has
# exactly these.
MEDIA_POST = f"i.flags & {MEDIA} <> 0"

_NEWEST = (
    "coalesce((SELECT max(i.id) FROM feed_items i WHERE i.author_id = repos.author_id{and_so}), -1)"
)
# Entries of an index only. Another QUIET_ITEMS needs a migration that renews all.
_LOUD = (
    "coalesce((SELECT i.id FROM feed_items i WHERE i.author_id = repos.author_id"
    f" ORDER BY i.id DESC LIMIT 1 OFFSET {QUIET_ITEMS}), -1)"
)
# For all repos, unless a WHERE follows.
RENEW = (
    f"UPDATE repos SET newest_id = {_NEWEST.format(and_so='')},"
    f" newest_media_id = {_NEWEST.format(and_so=f' AND {MEDIA_POST}')}, loud_id = {_LOUD}"
)


def renew_newest(author_ids: Iterable[int]) -> None:
    """Note these of each author, and who was touched, in the transaction that does it."""
    authors = sorted(set(author_ids))
    execute_in(f"{RENEW} WHERE author_id", authors)
    touch(authors)
