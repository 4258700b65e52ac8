"""What must be right before a record is written: the login, the pictures, the addresses.

Everything here but the last check happens before anything goes over the network.
"""

import getpass
import ipaddress
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from publishing.account import Account, PublishFailed
from publishing.record import Avatar, refusals
from server.core.config import Config, load_config
from server.core.errors import ConfigError
from server.core.feed import Feed
from server.core.syntax import is_hostname

DEFAULTS = {
    "PUBLISH_HANDLE": "",
    "PUBLISH_APP_PASSWORD": "",
    "PUBLISH_PDS_URL": "https://bsky.social",
}
# Stands for a publisher that is not set: whoever publishes for the first time may not know the DID
# of the account yet, and is told it after the login.
_NOT_SET = "did:web:not-set.invalid"
AVATAR_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Login:
    """Who publishes, and where. The password is "" if it has to be asked for."""

    handle: str
    password: str = field(repr=False)
    pds_url: str


def read_config(environ: Mapping[str, str]) -> Config:
    """The settings of the service whose feeds are published."""
    publisher = environ.get("FEED_PUBLISHER_DID", "").strip()
    return load_config({**environ, "FEED_PUBLISHER_DID": publisher or _NOT_SET})


def read_login(environ: Mapping[str, str]) -> Login:
    """The PUBLISH_* settings. Raises ConfigError that names every problem at once."""
    settings = {name: environ.get(name, "").strip() or text for name, text in DEFAULTS.items()}
    handle = settings["PUBLISH_HANDLE"].lstrip("@")
    pds_url = settings["PUBLISH_PDS_URL"].rstrip("/")
    problems = []
    if not handle:
        problems.append("PUBLISH_HANDLE is not set: it is the handle of the publishing account")
    if not _is_pds_url(pds_url):
        problems.append(
            f"PUBLISH_PDS_URL={pds_url!r}: must be https://HOST "
            "(http:// only for a host of a private network: the password would go in the clear)"
        )
    if problems:
        raise ConfigError(problems)
    return Login(handle, settings["PUBLISH_APP_PASSWORD"], pds_url)


def read_avatars(feeds: Sequence[Feed], folder: Path) -> dict[str, Avatar]:
    """The pictures in `folder`, by the rkey that they are called after. None is needed."""
    avatars = {}
    for feed in feeds:
        paths = [folder / f"{feed.rkey}{suffix}" for suffix in AVATAR_SUFFIXES]
        found = [path for path in paths if path.is_file()]
        if len(found) > 1:
            raise ConfigError([f"{feed.rkey}: has {len(found)} avatars in {folder}, keep one"])
        if found:
            avatars[feed.rkey] = Avatar(found[0].read_bytes())
    return avatars


def refuse_unpublishable(
    config: Config, login: Login, feeds: Sequence[Feed], avatars: Mapping[str, Avatar]
) -> None:
    """Raises ConfigError for feeds that the network would refuse, or would never find."""
    problems = [line for feed in feeds for line in refusals(feed, avatars.get(feed.rkey))]
    is_private_network = login.pds_url.startswith("http://")
    if config.service_did.startswith("did:web:localhost") and not is_private_network:
        problems.append(
            "FEED_HOSTNAME is not set: the records would say that the feeds are at "
            f"{config.service_did}, where nobody but this machine finds them"
        )
    if problems:
        raise ConfigError(problems)


def password_of(login: Login) -> str:
    """The app password, asked for if it is not set. Never an argument: `ps` shows those to all."""
    if login.password:
        return login.password
    if not sys.stdin.isatty():
        raise ConfigError(["PUBLISH_APP_PASSWORD is not set, and there is no terminal to ask at"])
    password = getpass.getpass(f"App password of {login.handle}: ")
    if not password:
        raise ConfigError(["no password, no publishing"])
    return password


def refuse_other_account(account: Account, config: Config) -> None:
    """Feed URIs begin with the publisher's DID: the service answers for that one only."""
    if config.publisher_did == account.did:
        return
    said = "not set" if config.publisher_did == _NOT_SET else config.publisher_did
    raise PublishFailed(
        f"FEED_PUBLISHER_DID is {said}, but {account.handle} is {account.did}: the service would "
        f"not know these feeds. Log in as the publisher, or set FEED_PUBLISHER_DID={account.did}"
    )


def _is_pds_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or parts.username or parts.path or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_private(host))


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return not is_hostname(host.lower())
