"""The truth of a network: who exists, where they live, what is in their repos.

Pure: no sockets, no clock. Everything in it follows from the seed, the calls and their times.
"""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from simnet.keys import SigningKey, key_from_seed
from simnet.repo import JsonRecord, Ref, Repo, StoredRecord

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(slots=True)
class AccountState:
    """One account as the network knows it. `status` is `active` or what #account says else."""

    did: str
    name: str
    handle: str
    pds: int
    key: SigningKey
    repo: Repo
    password: str
    curve: str
    status: str = "active"
    # Hosts it has left, and what they say about it now.
    former: dict[int, str] = field(default_factory=dict)
    is_tombstoned: bool = False
    rotations: int = 0


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """A record that exists now. Times are those of its events; None: no event told of it."""

    did: str
    ref: Ref
    record: JsonRecord
    first_us: int
    written_us: int
    emitted_us: int | None

    @property
    def uri(self) -> str:
        """Its name."""
        return self.ref.uri

    @property
    def cid(self) -> str:
        """Its content."""
        return self.ref.cid


class World:
    """All accounts. Whoever reads or changes more than one thing holds `lock`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.lock = threading.RLock()
        self.accounts: dict[str, AccountState] = {}
        # When the event that told of a record's present version was emitted.
        self.emitted_us: dict[str, int] = {}
        self._by_handle: dict[str, AccountState] = {}

    def create(self, name: str, pds: int, curve: str) -> AccountState:
        """A new account with an empty repo that has no commit yet."""
        handle = name if "." in name else f"{name}.test"
        if handle in self._by_handle:
            raise ValueError(f"{handle} is taken")
        digest = hashlib.sha256(f"{self.seed}/did/{handle}".encode()).digest()
        did = "did:plc:" + "".join(_BASE32[byte & 31] for byte in digest[:24])
        key = key_from_seed(f"{self.seed}/key/{handle}/0", curve)
        repo = Repo(did, key, clock_id=digest[30] << 2 | digest[31] & 3)
        password = "-".join(digest.hex()[start : start + 4] for start in range(0, 16, 4))
        state = AccountState(did, name, handle, pds, key, repo, password, curve)
        self.accounts[did] = self._by_handle[handle] = state
        return state

    def find(self, name: str) -> AccountState | None:
        """An account by DID or handle."""
        return self.accounts.get(name) or self._by_handle.get(name)

    def rename(self, state: AccountState, handle: str) -> None:
        """Give an account another handle."""
        del self._by_handle[state.handle]
        state.handle = handle
        self._by_handle[handle] = state

    def rotate_key(self, state: AccountState) -> None:
        """Give an account a new signing key; commits from now on carry it."""
        state.rotations += 1
        seed = f"{self.seed}/key/{state.did}/{state.rotations}"
        state.key = state.repo.key = key_from_seed(seed, state.curve)

    def lookup(self, uri: str) -> StoredRecord | None:
        """The record behind an at-uri, whatever its author's status."""
        parts = uri.removeprefix("at://").split("/")
        state = self.accounts.get(parts[0])
        if state is None or len(parts) != 3 or state.status == "deleted":
            return None
        return state.repo.get(parts[1], parts[2])

    def records(self, *collections: str) -> Iterator[LiveRecord]:
        """Every record that exists now, of deleted accounts none; all collections if none given."""
        with self.lock:
            states = [state for state in self.accounts.values() if state.status != "deleted"]
            found = [(state.did, stored) for state in states for stored in state.repo.records()]
        for did, stored in found:
            if collections and stored.ref.collection not in collections:
                continue
            emitted_us = self.emitted_us.get(stored.ref.uri)
            times = (stored.first_us, stored.written_us, emitted_us)
            yield LiveRecord(did, stored.ref, stored.value, *times)

    def did_document(self, state: AccountState, pds_url: str) -> dict[str, Any]:
        """What the directory says about an account."""
        return {
            "@context": [
                "https://www.w3.org/ns/did/v1",
                "https://w3id.org/security/multikey/v1",
                "https://w3id.org/security/suites/secp256k1-2019/v1",
            ],
            "id": state.did,
            "alsoKnownAs": [f"at://{state.handle}"],
            "verificationMethod": [
                {
                    "id": f"{state.did}#atproto",
                    "type": "Multikey",
                    "controller": state.did,
                    "publicKeyMultibase": state.key.multibase,
                }
            ],
            "service": [
                {
                    "id": "#atproto_pds",
                    "type": "AtprotoPersonalDataServer",
                    "serviceEndpoint": pds_url,
                }
            ],
        }
