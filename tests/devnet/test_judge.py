"""The judge itself: what it lets pass and what it does not, with views made by hand."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from server.core.syntax import int_to_tid
from tests.devnet.judge import difference
from tests.devnet.reading import Seen


def seen(name: str, at: int, by: str | None = None) -> Seen:
    view: dict[str, Any] = {
        "post": {
            "uri": name,
            "indexedAt": f"2026-01-01T00:00:{at:02}.000Z",
            "author": {"did": name, "handle": name},
            "record": {"text": name},
        }
    }
    if by is not None:
        view["reason"] = {
            "uri": by,
            "indexedAt": view["post"]["indexedAt"],
            "by": {"did": by, "handle": by},
        }
    return Seen.of(view)


def tid_at(date: str) -> int:
    return int(datetime.fromisoformat(date).timestamp() * 1e6) << 10


A, B, C = seen("a", 3), seen("b", 2), seen("c", 1)


def found(
    ours: list[Seen],
    theirs: list[Seen],
    lost: set[str],
    visible: set[str],
    adrift: Collection[str] = (),
) -> str:
    problem = difference(ours, theirs, lost, visible, adrift)
    assert problem is not None
    return problem


def test_equal_feeds_differ_in_nothing() -> None:
    assert difference([A, B, C], [A, B, C], set(), set()) is None
    assert difference([], [], set(), set()) is None


def test_missing_and_extra_items_are_named() -> None:
    assert "missing from ours: 1" in found([A, C], [A, B, C], set(), set())
    assert "only in ours: 1" in found([A, B, C], [A, C], set(), set())


def test_repost_is_another_item_than_its_post() -> None:
    assert "missing from ours" in found([A, B], [A, seen("b", 2, "r")], set(), set())


def test_item_shown_twice_is_a_fault() -> None:
    assert "more than once" in found([A, B, B], [A, B], set(), set())


def test_order_counts_but_not_among_items_of_one_millisecond() -> None:
    assert "not newest first" in found([B, A], [A, B], set(), set())
    tie = seen("d", 2)
    assert difference([A, B, tie, C], [A, tie, B, C], set(), set()) is None


def test_repost_of_an_edited_post_must_be_there_and_in_its_place() -> None:
    lost = seen("x", 2, "r")
    assert difference([A, lost, C], [A, C], {"r"}, {"r"}) is None
    assert difference([A, lost, C], [A, lost, C], {"r"}, {"r"}) is None
    assert "missing {'r'}" in found([A, C], [A, C], {"r"}, {"r"})
    assert "missing {'r'}" in found([A, C], [A, lost, C], {"r"}, {"r"})
    assert "unwanted {'r'}" in found([A, lost, C], [A, C], {"r"}, set())
    assert "not newest first" in found([lost, A, C], [A, C], {"r"}, {"r"})


def test_fetched_post_of_the_future_may_sink_to_its_key_and_no_further() -> None:
    # A TID of 00:00:01.500; the others stand at 3 s, 2 s and 1 s.
    made = int_to_tid(tid_at("2026-01-01T00:00:01.500+00:00"))
    post = seen(f"at://a/app.bsky.feed.post/{made}", 2)
    adrift, none = {post.post}, set[str]()
    for ours in ([A, post, B, C], [A, B, post, C]):
        assert difference(ours, [A, post, B, C], none, none, adrift) is None
    assert "not newest first" in found([A, B, C, post], [A, post, B, C], none, none, adrift)
    assert "not newest first" in found([post, A, B, C], [A, post, B, C], none, none, adrift)
    assert "missing from ours" in found([A, B, C], [A, post, B, C], none, none, adrift)
