"""What we ask of a public AppView: who of these accounts follows that one.

Its answers are a stranger's, and looked at as closely as a PDS's: only what was asked about counts.
"""

from collections.abc import Mapping, Sequence

from server.core.errors import FetchFailed
from server.core.syntax import FOLLOW, is_rkey
from server.identity.fetcher import Fetcher

# The lexicon's bound on `others` of app.bsky.graph.getRelationships.
MAX_OTHERS = 30
DEADLINE_SECONDS = 10.0
MAX_ANSWER_BYTES = 200_000


def followers_among(
    fetcher: Fetcher, appview_url: str, did: str, others: Sequence[str]
) -> dict[str, str | None]:
    """By each of `others` (at most MAX_OTHERS): the key of its record that follows `did`, or None.

    Whom the AppView does not know is not in the answer. Raises FetchFailed.
    """
    answer = fetcher.get_json(
        f"{appview_url}/xrpc/app.bsky.graph.getRelationships",
        {"actor": did, "others": list(others)},
        deadline_s=DEADLINE_SECONDS,
        max_bytes=MAX_ANSWER_BYTES,
    )
    listed = answer.get("relationships") if isinstance(answer, Mapping) else None
    if not isinstance(listed, list):
        raise FetchFailed("getRelationships gave no list")
    told: dict[str, str | None] = {}
    for entry in listed:
        other = entry.get("did") if isinstance(entry, Mapping) else None
        if isinstance(other, str) and other in others:
            told[other] = _followed_by(entry.get("followedBy"), other)
    return told


def _followed_by(uri: object, follower: str) -> str | None:
    prefix = f"at://{follower}/{FOLLOW}/"
    if uri is None:
        return None
    if not isinstance(uri, str) or not uri.startswith(prefix) or not is_rkey(uri[len(prefix) :]):
        raise FetchFailed("getRelationships gave a follow of somebody else")
    return uri[len(prefix) :]
