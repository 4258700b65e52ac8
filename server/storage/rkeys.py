"""Record keys as integers: a TID is its number, anything else minus its id in `odd_rkeys`."""

from collections.abc import Iterable

from server.core.syntax import int_to_tid, is_tid, tid_to_int
from server.storage.database import value
from server.storage.many_rows import insert_rows, rows_in


def encode_rkeys(rkeys: Iterable[str]) -> dict[str, int]:
    """The integer of each key. New odd ones are numbered, in a statement of its own."""
    encoded: dict[str, int] = {}
    odd: list[str] = []
    for rkey in rkeys:
        if is_tid(rkey):
            encoded[rkey] = tid_to_int(rkey)
        else:
            odd.append(rkey)
    if odd:
        encoded |= _encode_odd(sorted(set(odd)))
    return encoded


def find_rkey(rkey: str) -> int | None:
    """The integer of a key, if it has one already: nothing is written."""
    if is_tid(rkey):
        return tid_to_int(rkey)
    found = value("SELECT id FROM odd_rkeys WHERE rkey = ?", (rkey,))
    return None if found is None else -int(found)


def decode_rkeys(numbers: Iterable[int]) -> dict[int, str]:
    """The key of each integer that `encode_rkeys` gave."""
    wanted = set(numbers)
    decoded = {number: int_to_tid(number) for number in wanted if number >= 0}
    if len(decoded) < len(wanted):
        odd = [-number for number in wanted if number < 0]
        for number, rkey in rows_in("SELECT id, rkey FROM odd_rkeys WHERE id", odd):
            decoded[-number] = rkey
    return decoded


def _encode_odd(rkeys: list[str]) -> dict[str, int]:
    found = dict(rows_in("SELECT rkey, id FROM odd_rkeys WHERE rkey", rkeys))
    missing = [rkey for rkey in rkeys if rkey not in found]
    if missing:
        insert_rows(
            "INSERT INTO odd_rkeys (rkey)",
            [(rkey,) for rkey in missing],
            "ON CONFLICT (rkey) DO NOTHING",
        )
        found |= dict(rows_in("SELECT rkey, id FROM odd_rkeys WHERE rkey", missing))
    return {str(rkey): -int(number) for rkey, number in found.items()}
