"""Following without quote posts by the people you follow, nor reposts of those.

A quote post is what the official app's own setting takes for one: a post that embeds a record, be
it another post, a list, a starter pack or a feed. Reposts of strangers' quote posts stay: we hold
no posts of strangers, and could not tell.
"""

from server.core.feed import Feed, TimelineFilter

FEED = Feed(
    rkey="no-quotes",
    display_name="Following, no quotes",
    description=(
        "Following without the quote posts of the people you follow, also where somebody "
        "reposts them. Everything else as in Following, newest first."
    ),
    filter=TimelineFilter(quotes=False, replies="following"),
)
