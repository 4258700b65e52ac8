"""The feeds that we publish. To add one: a module beside this file, and a line in FEEDS."""

from feeds.catch_up import FEED as CATCH_UP
from feeds.everything import FEED as EVERYTHING
from feeds.following import FEED as FOLLOWING
from feeds.media import FEED as MEDIA
from feeds.mutuals import FEED as MUTUALS
from feeds.no_quotes import FEED as NO_QUOTES
from feeds.no_reposts import FEED as NO_REPOSTS
from feeds.posts_only import FEED as POSTS_ONLY
from feeds.quiet import FEED as QUIET
from server.core.feed import Feed

# In the order in which people are shown them.
FEEDS: tuple[Feed, ...] = (
    FOLLOWING,
    EVERYTHING,
    POSTS_ONLY,
    NO_REPOSTS,
    NO_QUOTES,
    MEDIA,
    MUTUALS,
    QUIET,
    CATCH_UP,
)
