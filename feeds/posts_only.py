"""Only what the people you follow post themselves."""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="posts-only",
    display_name="Following, posts only",
    description=(
        "Posts by the people you follow, and your own, newest first. No replies, no reposts."
    ),
    filter=TimelineFilter(reposts=False, replies="none"),
)
