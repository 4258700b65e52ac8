"""Posts with pictures or video by the people you follow, and your own; replies as in Following.

Pictures and video are what the post itself embeds, also beside a quote. A link's preview is none,
and so a GIF, which is a link, is none either. Reposts are left out: we hold no posts of strangers,
and could not tell which of them have pictures.
"""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="media",
    display_name="Following, media",
    description=(
        "Posts with pictures or video by the people you follow, and your own, newest first. "
        "Replies as in Following. No reposts."
    ),
    filter=TimelineFilter(media_only=True, replies="following"),
)
