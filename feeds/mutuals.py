"""Following, but only of those whom you follow and who follow you, and your own.

Who follows back is heard on the stream, and looked up once for those who began before we listened
(server/backfill/mutuals.py). So the feed may take a few seconds to fill when it is first opened.
"""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="mutuals",
    display_name="Following, mutuals",
    description=(
        "Posts and reposts by the people you follow who follow you back, and your own, "
        "newest first. Replies as in Following."
    ),
    filter=TimelineFilter(authors="mutual", replies="following"),
)
