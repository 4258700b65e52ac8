"""Following without reposts: posts, quote posts, and the replies that Following shows."""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="no-reposts",
    display_name="Following, no reposts",
    description=(
        "Only what the people you follow write themselves, and your own, newest first. "
        "Replies as in Following. No reposts."
    ),
    filter=TimelineFilter(reposts=False, replies="following"),
)
