"""Following as the official app shows it, complete and strictly in the order of time."""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="following",
    display_name="Following, gapless",
    description=(
        "Every post and repost by the people you follow, and your own, newest first. "
        "Replies as in Following: those between people you follow. Nothing left out, nothing added."
    ),
    filter=TimelineFilter(replies="following"),
)
