"""Whether an account says in public that it likes one of these records.

Its server is asked anew and nothing of our tables, so that neither the answer nor the time it takes
says whom we know.
"""

from collections.abc import Collection, Mapping

from server.core.errors import FetchFailed, NotFound
from server.identity.did import Identity
from server.identity.fetcher import Fetcher

LIKE = "app.bsky.feed.like"

# The newest likes that are looked at: one page of what a PDS lists.
LIKES = 100
MAX_PAGE_BYTES = 500_000


def likes_any(
    fetcher: Fetcher, account: Identity, uris: Collection[str], deadline_s: float
) -> bool:
    """Whether one of the account's newest LIKES likes is of one of `uris`.

    Raises NotFound for an account that is not there, FetchFailed when that cannot be found out.
    """
    if account.pds_url is None:
        raise NotFound(f"{account.did} lives nowhere")
    answer = fetcher.get_json(
        f"{account.pds_url}/xrpc/com.atproto.repo.listRecords",
        {"repo": account.did, "collection": LIKE, "limit": str(LIKES)},
        deadline_s=deadline_s,
        max_bytes=MAX_PAGE_BYTES,
    )
    listed = answer.get("records") if isinstance(answer, Mapping) else None
    if not isinstance(listed, list):
        raise FetchFailed("listRecords gave no page")
    return any(_subject(entry) in uris for entry in listed[:LIKES])


def _subject(entry: object) -> object:
    """The URI that a listed like is of; None for nonsense."""
    for key in ("value", "subject", "uri"):
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    return entry if isinstance(entry, str) else None
