"""DIDs: what their documents say about an account, and where the documents are. Caches nothing."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from server.core.errors import FetchFailed
from server.core.syntax import is_did, is_hostname
from server.identity.fetcher import Fetcher
from server.identity.keys import signing_key

# Bytes of a DID document. PLC keeps operations under 8 kB, and a document is hardly larger.
MAX_DOCUMENT_BYTES = 65_536

# Entries looked at in each list of a document.
MAX_ENTRIES = 100

_ENDPOINT = re.compile(
    r"(https?)://([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,39}\])"
    r"(?::([1-9][0-9]{0,4}))?/?"
)
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Identity:
    """What the DID document of an account says; None for what it does not say, or not well.

    The handle is the account's own claim and unverified. `pds_url` has no slash at its end, and
    `urlsplit` reads its host and port; whether we may fetch from it is the fetcher's decision.
    `signing_key` is as in keys.py.
    """

    did: str
    handle: str | None
    pds_url: str | None
    signing_key: str | None


def parse_document(did: str, document: object) -> Identity:
    """The identity in a DID document. Pure. Raises FetchFailed if it is not the document of `did`.

    Of entries with the same id the first counts, even if it is of no use: another reader could
    otherwise see another key than we do.
    """
    if not isinstance(document, dict) or document.get("id") != did:
        raise FetchFailed(f"what was found for {did} is not its DID document")
    return Identity(
        did=did,
        handle=_find_handle(document),
        pds_url=_find_pds(did, document),
        signing_key=_find_key(did, document),
    )


class Directory:
    """Looks DID documents up: did:plc at the directory, did:web at the host that it names."""

    def __init__(self, plc_url: str, fetcher: Fetcher) -> None:
        self._plc_url = plc_url
        self._fetcher = fetcher

    def resolve(self, did: str, deadline_s: float) -> Identity:
        """The identity of a DID that `is_did` accepts.

        Raises NotFound when it does not exist or no longer exists, FetchFailed for other trouble.
        """
        if not is_did(did):
            raise FetchFailed("not the DID of an account, not looked up")
        if did.startswith("did:web:"):
            url = f"https://{did.removeprefix('did:web:')}/.well-known/did.json"
        else:
            url = f"{self._plc_url}/{did}"
        document = self._fetcher.get_json(url, deadline_s=deadline_s, max_bytes=MAX_DOCUMENT_BYTES)
        return parse_document(did, document)


def _entries(document: dict[str, object], name: str) -> list[object]:
    entries = document.get(name)
    return entries[:MAX_ENTRIES] if isinstance(entries, list) else []


def _with_id(did: str, document: dict[str, object], name: str, fragment: str) -> dict[str, object]:
    """The first entry of a list that has the id `#fragment`, short or in full; {} without one."""
    return next(_all_with_id(did, document, name, fragment), {})


def _all_with_id(
    did: str, document: dict[str, object], name: str, fragment: str
) -> Iterator[dict[str, object]]:
    for entry in _entries(document, name):
        if isinstance(entry, dict) and entry.get("id") in (f"#{fragment}", f"{did}#{fragment}"):
            yield entry


def _find_handle(document: dict[str, object]) -> str | None:
    for alias in _entries(document, "alsoKnownAs"):
        if isinstance(alias, str) and alias.startswith("at://"):
            handle = alias.removeprefix("at://").lower()
            if is_hostname(handle):
                return handle
    return None


def _find_pds(did: str, document: dict[str, object]) -> str | None:
    service = _with_id(did, document, "service", "atproto_pds")
    endpoint = service.get("serviceEndpoint")
    if service.get("type") != "AtprotoPersonalDataServer" or not isinstance(endpoint, str):
        return None
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or not _is_place(match[2], match[3]):
        return None
    port = f":{match[3]}" if match[3] else ""
    return f"{match[1]}://{match[2].lower()}{port}"


def _is_place(host: str, port: str | None) -> bool:
    """Whether an endpoint's brackets hold an address and its port exists, or `urlsplit` raises."""
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
    return port is None or int(port) <= _MAX_PORT


def _find_key(did: str, document: dict[str, object]) -> str | None:
    method = _with_id(did, document, "verificationMethod", "atproto")
    kind, multibase = method.get("type"), method.get("publicKeyMultibase")
    if method.get("controller") != did or not isinstance(kind, str):
        return None
    return signing_key(kind, multibase) if isinstance(multibase, str) else None
