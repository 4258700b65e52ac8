"""Following, but only of those who write little, so that nothing of theirs drowns.

Quiet is whoever has written at most 30 posts, replies and reposts in the last 30 days, together:
one a day. Everything of theirs that Following shows is here, however old. Somebody who writes
more is gone from here until the last 30 days hold no more than 30 again. Your own are left out.
"""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="quiet",
    display_name="Following, quiet ones",
    description=(
        "Posts and reposts by the people you follow who write little: at most 30 in the last "
        "30 days, replies included. Newest first, so that nothing of theirs drowns."
    ),
    filter=TimelineFilter(authors="quiet", replies="following"),
)
