"""All that the people you follow post, whoever they reply to."""

from server.core.feed import Feed

FEED = Feed(
    rkey="everything",
    display_name="Following, everything",
    description=(
        "Every post, every repost and every reply by the people you follow, and your own, "
        "newest first, whoever they are talking to."
    ),
)
