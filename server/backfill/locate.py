"""Where a repo lives: the PDS that its DID document names, remembered in `authors`."""

import time

from server.core.errors import FetchFailed, NotFound
from server.identity.did import Directory, Identity
from server.storage import authors

LOOKUP_SECONDS = 10.0


def look_up_home(directory: Directory, did: str) -> tuple[str, Identity]:
    """The PDS as the directory names it now, and all that it says.

    Raises NotFound (named RepoNotFound) when there is no such account any more, FetchFailed when
    that cannot be said or the document names no PDS.
    """
    try:
        identity = directory.resolve(did, LOOKUP_SECONDS)
    except NotFound as gone:
        raise NotFound(f"the account is gone: {gone}", "RepoNotFound") from gone
    if identity.pds_url is None:
        raise FetchFailed("the DID document names no PDS")
    return identity.pds_url, identity


def remember(identity: Identity) -> None:
    """Spare the next one the look-up."""
    authors.save_identity(
        identity.did,
        identity.handle,
        identity.pds_url,
        identity.signing_key,
        time.time_ns() // 1000,
    )


def look_up_pds(directory: Directory, did: str) -> str:
    """The PDS of a repo, looked up now and remembered; raises like `look_up_home`."""
    pds_url, identity = look_up_home(directory, did)
    remember(identity)
    return pds_url
