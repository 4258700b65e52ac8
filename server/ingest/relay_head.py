"""The head of a #commit frame, read where it lies: whose commit it is, and what it touches.

Pure. DAG-CBOR has one form for each object, so the head of a usual commit is one regular
expression, in which each text and each byte string has the length that stands before it: what
matches has one reading, and it is the one that a decoder gives, if it gives any. What is unusual in
any way (many ops, odd lengths, other keys) does not match, and goes to the decoder.

For skipping only: nothing that is to be kept is read here. `without_strangers` passes over what is
about repos that nobody tracks, many frames at a time (sift.py). `skip` answers for commits of those
as well, and for commits of tracked repos that touch no collection of ours. It does not look at what
comes after the head of a stranger's commit, nor does the former at the letters of its texts, so a
broken frame is skipped where a decoder would refuse it: it is about nobody of ours.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from server.core.events import Commit, Event, Skipped
from server.core.syntax import FOLLOW, POST, REPOST, datetime_ms, tid_to_int
from server.ingest.sift import sifter

_LINK = rb"\xd8\x2a\x58\x25\x00\x01[\x55\x71]\x12\x20.{32}"
_LINK_OR_NULL = rb"(?:\xf6|" + _LINK + rb")"
# A text of 24 to 255 bytes has its length in its second byte. Likes, posts and reposts come first.
_PATH_LENGTHS = (32, 34, 35, *(n for n in range(24, 80) if n not in (32, 34, 35)))
_ACTION = rb"faction(?:fcreate|fdelete|fupdate)"
_TID = rb"[2-7a-j][2-7a-z]{12}"
# Host names of did:web that are neither very short nor very long.
_WEB_LENGTHS = range(24, 64)
_WEB = b"|".join(
    re.escape(bytes((0x78, n))) + rb"did:web:[a-z0-9.-]{%d}" % (n - 8) for n in _WEB_LENGTHS
)

# The number of the event: any below 2**63, and the length of its bytes with it.
_SEQ = rb"[\x00-\x17]|\x18.|\x19.{2}|\x1a.{4}|\x1b[\x00-\x7f].{7}"


def _to_repo(group: bytes, letter: bytes, tid: bytes) -> bytes:
    """As far as the repo; groups, if they are: keys, ops, rev, seq. `letter`: one of a path."""
    path = b"|".join(re.escape(bytes((0x78, n))) + letter + rb"{%d}" % n for n in _PATH_LENGTHS)
    op = rb"ccid" + _LINK_OR_NULL + rb"dpath(?:" + path + rb")"
    op = rb"(?:\xa3" + op + _ACTION + rb"|\xa4" + op + rb"dprev" + _LINK_OR_NULL + _ACTION + rb")"
    return (
        rb"\xa2atg#commitbop\x01" + group + rb"[\xab\xac])"
        rb"cops" + group + rb"\x81" + op + rb"|\x80|\x82" + op + rb"{2})"
        rb"crevm" + group + tid + rb")cseq" + group + _SEQ + rb")drepo"
    )


# Whose commit it is. Where texts begin and end is sure by their lengths alone; what is in those of
# a stranger does not matter, and to look at it, or to note four more groups, would take time.
_WHOSE = re.compile(_to_repo(b"(?:", b".", b".{13}") + rb"x\x20(.{32})dtime", re.DOTALL)
# And of what is said of an account: `did` comes first, whatever else there is.
_ABOUT = re.compile(
    rb"\xa2at(?:i#identity|h#account|e#sync)bop\x01[\xa1-\xb7]cdidx\x20(did:plc:[a-z2-7]{24})"
)
without_strangers = sifter(_WHOSE, _ABOUT)

# As far as the time: groups keys, ops, rev, seq, repo, second, millisecond.
_HEAD = re.compile(
    _to_repo(b"(", b"[!-~]", _TID) + rb"(x\x20did:plc:[a-z2-7]{24}|" + _WEB + rb")"
    rb"dtimex\x18([!-~]{19})\.([0-9]{3})Z",
    re.DOTALL,
)
# From there to the blocks: groups since, and the length of the blocks.
_MIDDLE = re.compile(
    rb"eblobs\x80esince(?:\xf6|m(" + _TID + rb"))fblocks(?:X(.)|Y(..)|Z(.{4}))", re.DOTALL
)
# From the blocks to the end, of a frame with 11 keys and of one with 12.
_TAIL = rb"fcommit" + _LINK + rb"frebase[\xf4\xf5]ftooBig\xf4"
_TAILS = {
    b"\xab": re.compile(_TAIL, re.DOTALL),
    b"\xac": re.compile(_TAIL + rb"hprevData" + _LINK_OR_NULL, re.DOTALL),
}
# A class's own `__new__` costs as much again, and `int` three times what a look into a table does.
_new = tuple.__new__
_MILLISECONDS = {b"%03d" % number: number for number in range(1000)}
_OURS = re.compile("|".join(re.escape(name) + "/" for name in (POST, REPOST, FOLLOW)).encode())


def skip(frame: bytes, wants: Mapping[str, int]) -> Event | None:
    """The event of a commit that has nothing for us; None if only a decoder can tell."""
    head = _HEAD.match(frame)
    if head is None:
        return None
    seq, repo, second, millisecond = head.group(4, 5, 6, 7)
    second_ms = _second_ms(second)
    if second_ms is None:
        return None
    number, time_ms = int.from_bytes(seq[1:] or seq), second_ms + _MILLISECONDS[millisecond]
    if time_ms == 0:
        # To the decoder a commit of that moment has no time.
        return None
    did = repo[2:].decode()
    if did not in wants:
        return _new(Skipped, (number, time_ms))
    keys, ops, rev = head.group(1, 2, 3)
    if _OURS.search(ops) is not None:
        return None
    middle = _MIDDLE.match(frame, head.end())
    if middle is None or not _ends_well(frame, middle, _TAILS[keys]):
        return None
    since = middle[1]
    since_rev = 0 if since is None else tid_to_int(since.decode())
    rev_number = tid_to_int(rev.decode())
    return _new(Commit, (number, time_ms, did, rev_number, since_rev, (), None))


def _ends_well(frame: bytes, middle: re.Match[bytes], tail: re.Pattern[bytes]) -> bool:
    """Whether all of the commit is there, and does not say tooBig."""
    length = int.from_bytes(middle[2] or middle[3] or middle[4])
    return tail.fullmatch(frame, middle.end() + length) is not None


@lru_cache(maxsize=4096)
def _second_ms(second: bytes) -> int | None:
    """The second of a `time`, in milliseconds. Thousands of events share one."""
    return datetime_ms(second.decode() + "Z")
