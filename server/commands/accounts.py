"""An account as somebody types it: a DID or a handle; and the number that our tables have."""

from dataclasses import dataclass

from server.core.config import Config
from server.core.errors import ConfigError, FetchFailed
from server.core.syntax import is_did, is_hostname
from server.outgoing import make_fetcher, make_handles
from server.storage import authors

# Nobody waits longer than this for a name.
LOOKUP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """An account that our tables have a number for."""

    number: int
    did: str


def find_account(config: Config, text: str) -> KnownAccount:
    """The account that `text` names. Raises ConfigError if it is none, or none that we know."""
    did = find_did(config, text)
    number = authors.author_id(did)
    if number is None:
        raise ConfigError([f"{did} is not known here: no viewer, and nobody whom a viewer follows"])
    return KnownAccount(number, did)


def find_did(config: Config, text: str) -> str:
    """The DID that `text` is, or that the handle `text` stands for.

    Our tables are asked first, then DNS and the handle's own host. Raises ConfigError that says
    what is wrong with the words.
    """
    if is_did(text):
        return text
    handle = text.removeprefix("@").lower()
    if not is_hostname(handle):
        raise ConfigError([f"{text!r} is neither a DID nor a handle"])
    claimants = authors.claimants(handle)
    if len(claimants) == 1:
        return claimants[0]
    if claimants:
        raise ConfigError([f"{handle} was claimed by {' and '.join(claimants)}: give the DID"])
    fetcher = make_fetcher(config)
    try:
        return make_handles(config, fetcher).resolve(handle, LOOKUP_SECONDS).did
    except FetchFailed as error:
        raise ConfigError(
            [f"the handle {handle} cannot be resolved ({error}): give the DID"]
        ) from error
    finally:
        fetcher.close()
