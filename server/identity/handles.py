"""Handles: whose is this name now? Both sides must say so, the name's host and the DID's document.

Only the host's own word over HTTPS is asked; a handle that is proven by a DNS record alone is not
found. Nothing is kept.
"""

from server.core.errors import FetchFailed, NotFound
from server.core.syntax import is_did
from server.identity.did import Directory
from server.identity.fetcher import Fetcher

# A DID, and what an editor may have left behind it.
MAX_ANSWER_BYTES = 4096


def resolve_handle(fetcher: Fetcher, directory: Directory, handle: str, deadline_s: float) -> str:
    """The DID that a handle and its account agree on; each step may take `deadline_s`.

    `handle` is a host name in lower case. Raises NotFound when they do not, FetchFailed when that
    cannot be found out.
    """
    url = f"https://{handle}/.well-known/atproto-did"
    did = fetcher.get_text(url, deadline_s=deadline_s, max_bytes=MAX_ANSWER_BYTES).strip()
    if not is_did(did):
        raise FetchFailed(f"{handle} names no DID")
    if directory.resolve(did, deadline_s).handle != handle:
        raise NotFound(f"{did} does not call itself {handle}")
    return did
