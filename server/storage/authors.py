"""Accounts: the number that stands for a DID in all tables, and the identity that we looked up."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from server.storage.database import for_update, rows, value, write_transaction
from server.storage.many_rows import execute_in, insert_rows, rows_in, update_rows

# A page names a hundred accounts or two, and mostly the same few thousand. The memory is emptied
# when it is full: 130 bytes each, 25 MB.
MAX_REMEMBERED = 200_000
# What was checked, or doubted, further ahead than this was so by a clock that is wrong.
MAX_AHEAD_US = 3_600_000_000

# The account of each number. A number is never given to another account, nor taken back.
_dids: dict[int, str] = {}


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """What a DID document said at `checked_us`; 0: known to be out of date."""

    did: str
    handle: str | None
    pds_url: str | None
    signing_key: str | None
    checked_us: int


@dataclass(frozen=True, slots=True)
class Account:
    """An account and its number."""

    author_id: int
    did: str


def author_id(did: str) -> int | None:
    """The number of an account that we know."""
    found = value("SELECT id FROM authors WHERE did = ?", (did,))
    return None if found is None else int(found)


def author_did(number: int) -> str | None:
    """The account that a number stands for."""
    found = value("SELECT did FROM authors WHERE id = ?", (number,))
    return None if found is None else str(found)


def dids_of(numbers: Iterable[int]) -> dict[int, str]:
    """The accounts that these numbers stand for."""
    wanted = set(numbers)
    found = {number: did for number in wanted if (did := _dids.get(number)) is not None}
    if len(found) < len(wanted):
        fetched = dict(rows_in("SELECT id, did FROM authors WHERE id", wanted - found.keys()))
        if len(_dids) + len(fetched) > MAX_REMEMBERED:
            _dids.clear()
        _dids.update(fetched)
        found |= fetched
    return found


def forget_dids() -> None:
    """Another database has other numbers."""
    _dids.clear()


def claimants(handle: str, limit: int) -> list[str]:
    """Accounts whose DID documents claimed this handle when we last looked. Reads the table."""
    sql = "SELECT did FROM authors WHERE handle = ? ORDER BY id LIMIT ?"
    return [str(did) for (did,) in rows(sql, (handle, limit))]


def author_ids(dids: Iterable[str]) -> dict[str, int]:
    """The numbers of these accounts, given out now to those that have none.

    Call it outside the transaction that uses them: rows of authors are nothing but names, and two
    transactions that name the same new accounts would wait for each other.
    """
    # In one order everywhere, so that two callers cannot hold what the other wants.
    wanted = sorted(set(dids))
    found = _known_ids(wanted)
    missing = [(did,) for did in wanted if did not in found]
    if missing:
        insert_rows("INSERT INTO authors (did)", missing, "ON CONFLICT (did) DO NOTHING")
        found |= _known_ids([did for (did,) in missing])
    return found


def _known_ids(dids: list[str]) -> dict[str, int]:
    found = rows_in("SELECT did, id FROM authors WHERE did", dids)
    return {str(did): int(number) for did, number in found}


def load_identity(did: str) -> StoredIdentity | None:
    """The identity of an account that we know and have looked up before."""
    found = rows(
        "SELECT handle, pds_url, signing_key, checked_us FROM authors"
        " WHERE did = ? AND checked_us IS NOT NULL",
        (did,),
    )
    if not found:
        return None
    handle, pds_url, signing_key, checked_us = found[0]
    return StoredIdentity(did, handle, pds_url, signing_key, max(checked_us, 0))


def save_identity(
    did: str, handle: str | None, pds_url: str | None, signing_key: str | None, checked_us: int
) -> None:
    """Remember an identity, of an account that we know: a flood of strangers writes nothing.

    A doubt that came up while the document was being asked for is not settled by it, and an answer
    to a later question is not replaced: a key that was revoked would be back.
    """
    save_identities([StoredIdentity(did, handle, pds_url, signing_key, checked_us)])


def save_identities(identities: Iterable[StoredIdentity]) -> None:
    """The same for several accounts, which may be none."""
    asked = {one.did: one for one in identities}
    if not asked:
        return
    now_us = time.time_ns() // 1000
    with write_transaction():
        known = rows_in(
            "SELECT did, coalesce(checked_us, 0) FROM authors WHERE did",
            sorted(asked),
            f"ORDER BY id {for_update()}",
        )
        values = []
        for did, held_us in known:
            one = asked[did]
            if one.checked_us < held_us <= one.checked_us + MAX_AHEAD_US:
                continue
            # A doubt is minus the time at which it came up. One of a time to come, by a clock that
            # was ahead, lasts until the next look-up.
            is_doubted = one.checked_us < -held_us <= one.checked_us + MAX_AHEAD_US
            checked_us = max(held_us, -now_us) if is_doubted else one.checked_us
            values.append((did, one.handle, one.pds_url, one.signing_key, checked_us))
        update_rows("authors", ("handle", "pds_url", "signing_key", "checked_us"), ("did",), values)


def outdate_identities(dids: Iterable[str], now_us: int) -> None:
    """Their DID documents may have changed: whoever needs one looks it up anew."""
    execute_in(
        "UPDATE authors SET checked_us = ? WHERE checked_us IS NOT NULL AND did",
        sorted(set(dids)),
        [-now_us],
    )


def outdated_after(number: int, limit: int) -> list[Account]:
    """Accounts whose document may have changed, of those that are tracked and shown."""
    found = rows(
        "SELECT a.id, a.did FROM authors a JOIN repos r ON r.author_id = a.id"
        " WHERE a.checked_us <= 0 AND r.state <> 0 AND r.is_active = 1 AND a.id > ?"
        " ORDER BY a.id LIMIT ?",
        (number, limit),
    )
    return [Account(*row) for row in found]
