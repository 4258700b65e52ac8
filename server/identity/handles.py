"""Handles: whose is this name now? Both sides must say so, the name's owner and the DID's document.

The owner says it in DNS, by a TXT record, or over HTTPS. DNS is asked first and has the last word:
HTTPS is asked where DNS proves nothing, or cannot be asked. Where nobody proves anything and DNS
did not answer, the handle is not known, which is not the same as not there. Names that DNS reserves
are refused without asking anybody. Nothing is kept.
"""

from server.core.errors import FetchFailed, NotFound
from server.core.syntax import is_did
from server.identity.did import Directory, Identity
from server.identity.fetcher import Fetcher
from server.identity.txt_records import TxtRecords
from server.identity.urls import PRIVATE_SUFFIXES

# A DID, and what an editor may have left behind it.
MAX_ANSWER_BYTES = 4096

# Endings that nobody can own.
RESERVED_SUFFIXES = (*PRIVATE_SUFFIXES, ".alt", ".example", ".invalid")
# The one that networks for tests may use.
TEST_SUFFIX = ".test"

# What a text begins with that names a DID; others are somebody else's business.
PREFIX = "did="


class Handles:
    """Finds accounts by their handles. Safe to share between threads."""

    def __init__(
        self,
        fetcher: Fetcher,
        directory: Directory,
        txt_records: TxtRecords,
        *,
        allow_test_names: bool,
    ) -> None:
        self._fetcher = fetcher
        self._directory = directory
        self._txt_records = txt_records
        self._refused = RESERVED_SUFFIXES if allow_test_names else (*RESERVED_SUFFIXES, TEST_SUFFIX)

    def find(self, text: str, deadline_s: float) -> Identity:
        """The account that a DID or a handle stands for. Raises as `resolve` does."""
        if is_did(text):
            return self._directory.resolve(text, deadline_s)
        return self.resolve(text, deadline_s)

    def resolve(self, handle: str, deadline_s: float) -> Identity:
        """The account that calls itself `handle`, and may; each of 3 steps may take `deadline_s`.

        `handle` is a host name in lower case. Raises NotFound when there is none, FetchFailed when
        that cannot be found out.
        """
        if handle.endswith(self._refused):
            raise NotFound(f"{handle} has an ending that is reserved")
        identity = self._directory.resolve(self._proven(handle, deadline_s), deadline_s)
        if identity.handle != handle:
            raise NotFound(f"{identity.did} does not call itself {handle}")
        return identity

    def _proven(self, handle: str, deadline_s: float) -> str:
        """The DID that the owner of the name names."""
        try:
            did = self._by_dns(handle, deadline_s)
        except NotFound:
            raise
        except FetchFailed as silence:
            try:
                return self._by_https(handle, deadline_s)
            except FetchFailed as error:
                raise FetchFailed(f"{silence}; {error}") from error
        return did or self._by_https(handle, deadline_s)

    def _by_dns(self, handle: str, deadline_s: float) -> str | None:
        """None if DNS proves nothing. Raises NotFound if it names several accounts."""
        try:
            texts = self._txt_records.look_up(f"_atproto.{handle}", deadline_s)
        except NotFound:
            return None
        # Bytes that are no ASCII become something that is in no DID.
        values = (text.decode("ascii", "replace") for text in texts)
        named = (text.removeprefix(PREFIX) for text in values if text.startswith(PREFIX))
        dids = {did for did in named if is_did(did)}
        if len(dids) > 1:
            # Nobody can tell which of them was forgotten there.
            raise NotFound(f"DNS names {len(dids)} accounts for {handle}")
        return next(iter(dids), None)

    def _by_https(self, handle: str, deadline_s: float) -> str:
        url = f"https://{handle}/.well-known/atproto-did"
        did = self._fetcher.get_text(url, deadline_s=deadline_s, max_bytes=MAX_ANSWER_BYTES).strip()
        if not is_did(did):
            raise FetchFailed(f"{handle} names no DID")
        return did
