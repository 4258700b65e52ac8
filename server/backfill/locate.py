"""Where a repo lives: the PDS that its DID document names, remembered in `authors`."""

import time
from dataclasses import dataclass

from server.core.errors import FetchFailed, NotFound
from server.identity.did import Directory, Identity
from server.storage import departures
from server.storage.authors import StoredIdentity
from server.storage.database import release

LOOKUP_SECONDS = 10.0

# The name of a NotFound of the directory's. No PDS can say it: names of XRPC errors have no spaces.
NOT_LISTED = "not listed"


@dataclass(frozen=True, slots=True)
class Home:
    """A PDS, and all that the directory said; `asked_us`: before the question."""

    pds_url: str
    identity: Identity
    asked_us: int


def look_up_home(directory: Directory, did: str) -> Home:
    """The PDS as the directory names it now.

    Raises NotFound when the directory knows no such account, FetchFailed when that cannot be said
    or the document names no PDS. A NotFound is named RepoNotFound for a tombstone of PLC (410),
    which nobody takes back, and NOT_LISTED for all else: a 404, or what the website of a did:web
    says, may be of a bad hour. (plc.directory itself says 404 of tombstones as well.)
    """
    # As in pds.py: who waits for a stranger, as the host of a did:web is, holds no connection.
    release()
    asked_us = time.time_ns() // 1000
    try:
        identity = directory.resolve(did, LOOKUP_SECONDS)
    except NotFound as gone:
        is_tombstone = gone.is_for_good and did.startswith("did:plc:")
        name = "RepoNotFound" if is_tombstone else NOT_LISTED
        raise NotFound(f"the account is gone: {gone}", name) from gone
    if identity.pds_url is None:
        raise FetchFailed("the DID document names no PDS")
    return Home(identity.pds_url, identity, asked_us)


def as_stored(home: Home) -> StoredIdentity:
    """As it is remembered, to spare the next one the look-up."""
    found = home.identity
    return StoredIdentity(found.did, found.handle, found.pds_url, found.signing_key, home.asked_us)


def look_up_pds(directory: Directory, did: str) -> str:
    """The PDS of a repo, looked up now and remembered; raises like `look_up_home`."""
    home = look_up_home(directory, did)
    departures.remember_home(as_stored(home))
    return home.pds_url
