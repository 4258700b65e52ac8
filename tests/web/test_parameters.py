"""The query of a request, whatever is in it: understood exactly, or refused in our own words."""

from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from feeds import FEEDS
from server.core.errors import BadRequest
from server.web.parameters import parse_skeleton
from tests.builders import did
from tests.fuzzing import fuzz

PUBLISHER = did("publisher")
URIS = [feed.uri(PUBLISHER) for feed in FEEDS]

NAMES = st.sampled_from(["feed", "limit", "cursor", "Limit", "limit[]", "other"])
NUMBERISH = st.from_regex(r"[+ -]?[0-9\u0660-\u0669_.e]{0,6}\n?", fullmatch=True)
CURSORISH = st.from_regex(r"[12]?-[0-9-]{0,22}", fullmatch=True)
VALUES = st.sampled_from(URIS) | NUMBERISH | CURSORISH | st.text(max_size=30)


@fuzz(150)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), st.booleans())
def test_any_query_is_understood_exactly_or_refused(pairs, has_feed):
    if has_feed:
        pairs = [("feed", URIS[0]), *pairs]
    arguments = MultiDict(pairs)
    try:
        wanted = parse_skeleton(arguments, FEEDS, PUBLISHER)
    except BadRequest:
        return
    assert [text for text in arguments.getlist("feed") if text] == [wanted.feed.uri(PUBLISHER)]
    given_limit = "".join(arguments.getlist("limit"))
    assert wanted.limit == int(given_limit or "50")
    assert given_limit == "" or given_limit.isascii()
    assert 1 <= wanted.limit <= 100
    assert len(arguments.getlist("cursor")) <= 1
