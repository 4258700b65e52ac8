"""Following read from the bottom: the oldest unread item first, from where the viewer stopped.

The app reports what it showed, and all that stands above the last item seen is unread. It begins
with that item, so that one finds the place again. The first time, and after a month away, it begins
with what is 24 hours old. Apps that report nothing: asking for a page says that those before the
one on the screen are read (server/web/reading_place.py).

What comes late does not turn up above the place where it belongs: history that is fetched for
somebody newly followed, and posts with an old date, may stand below what is read already.
"""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="catch-up",
    display_name="Following, catch up",
    description=(
        "Following from the bottom: oldest unread first, beginning where you stopped reading. "
        "All posts and reposts, replies as in Following. The first time it begins 24 hours ago."
    ),
    filter=TimelineFilter(replies="following"),
    oldest_first=True,
)
