"""Finds the messages about strangers among many, by the first bytes of each. Pure.

For passing over only: what is not recognised is kept, for the decoder. What is passed over is not
looked at beyond its head, so a message that is broken further on is passed over where a decoder
would refuse it: it is about nobody of ours.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from server.ingest.frames import Span

# So many messages are not worth a choice.
FEW = 16

# Those of many messages that have to be decoded.
Sift = Callable[[memoryview, Sequence[Span], Mapping[str, int]], Sequence[Span]]


def sifter(usual: re.Pattern[bytes], other: re.Pattern[bytes]) -> Sift:
    """Passes over what matches one of these, with a DID as its only group that nobody tracks.

    But for the last one, which tells what number and what time the source has come to. FEW are all
    kept: at the pace of now, that time is to be right within a moment. The group may be any bytes:
    DIDs are ASCII, so what is no DID is nobody's, however it is read.
    """
    match_usual, match_other = usual.match, other.match

    def sift(memory: memoryview, spans: Sequence[Span], wants: Mapping[str, int]) -> Sequence[Span]:
        if len(spans) <= FEW:
            return spans
        kept = []
        for start, stop in spans[:-1]:
            head = match_usual(memory, start, stop) or match_other(memory, start, stop)
            if head is None or head[1].decode("latin-1") in wants:
                kept.append((start, stop))
        kept.append(spans[-1])
        return kept

    return sift
