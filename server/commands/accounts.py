"""An account as somebody types it: a DID or a handle; and the number that our tables have."""

from server.core.config import Config
from server.core.errors import ConfigError, FetchFailed, NotFound
from server.core.syntax import is_did, is_hostname
from server.outgoing import make_fetcher, make_handles
from server.storage import authors, viewers

# For each of the three questions that a handle takes.
LOOKUP_SECONDS = 5.0
# Accounts named of those that claim a handle: anybody can claim any.
CLAIMANTS = 3


def find_viewer(config: Config, text: str) -> tuple[str, int]:
    """DID and number of the viewer that `text` names.

    Raises ConfigError if that is no account, or has opened none of our feeds.
    """
    did = find_did(config, text)
    viewer = viewers.find(did)
    if viewer is None:
        problem = "has not opened one of our feeds for VIEWER_DAYS, or was forgotten since"
        raise ConfigError([f"{did} {problem}"])
    return did, viewer.number


def find_did(config: Config, text: str) -> str:
    """The DID that `text` is, or that the handle `text` stands for.

    A handle is asked for out there, both ways: what our tables hold is what an account calls
    itself, and what is done next may be to delete. Raises ConfigError that says what is wrong.
    """
    if is_did(text):
        return text
    handle = text.removeprefix("@").lower()
    if not is_hostname(handle):
        raise ConfigError([f"{text!r} is neither a DID nor a handle"])
    fetcher = make_fetcher(config)
    try:
        return make_handles(config, fetcher).resolve(handle, LOOKUP_SECONDS).did
    except FetchFailed as error:
        what = "is nobody's" if isinstance(error, NotFound) else "cannot be verified now"
        problem = f"the handle {handle} {what} ({error}): give the DID"
        claimants = authors.claimants(handle, CLAIMANTS)
        if claimants:
            problem += f". {' and '.join(claimants)} claimed it, which proves nothing"
        raise ConfigError([problem]) from error
    finally:
        fetcher.close()
