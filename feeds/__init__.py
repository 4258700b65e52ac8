"""The feeds that we publish. To add one: a module beside this file, and a line in FEEDS."""

from feeds.everything import FEED as EVERYTHING
from feeds.following import FEED as FOLLOWING
from feeds.posts_only import FEED as POSTS_ONLY
from server.core.feed import Feed

FEEDS: tuple[Feed, ...] = (FOLLOWING, EVERYTHING, POSTS_ONLY)
