"""Whether a sift passes over a message, when it is one of many."""

from collections.abc import Mapping

from server.ingest.sift import FEW, Sift


def is_passed_over(sift: Sift, message: bytes, wants: Mapping[str, int]) -> bool:
    """Whether it is gone from the middle of many like it; all of them are, but for the last."""
    memory = memoryview(message * (FEW + 1))
    size = len(message)
    spans = [(start, start + size) for start in range(0, len(memory), size)]
    kept = sift(memory, spans, wants)
    assert kept in ([spans[-1]], spans)
    assert sift(memory, spans[:FEW], wants) == spans[:FEW]
    return len(kept) == 1
