"""The second opinion on replies in Following, against cases made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.devnet.reply_rule import POST_VIEW, shows_in_following

ME, ANN, BEN, STRANGER, OTHER = "me", "ann", "ben", "stranger", "other"
FOLLOWED = {ANN, BEN}
GONE = {"$type": "app.bsky.feed.defs#notFoundPost", "notFound": True}
BLOCKED = {"$type": "app.bsky.feed.defs#blockedPost", "blocked": True}


def profile(did: str) -> dict[str, Any]:
    return {"did": did, "viewer": {"following": "at://…"} if did in FOLLOWED else {}}


def post(author: str) -> dict[str, Any]:
    return {"$type": POST_VIEW, "author": profile(author), "record": {"text": ""}}


def reply(
    author: str,
    parent: str | dict[str, Any],
    root: str | dict[str, Any],
    grandparent: str | None = None,
) -> dict[str, Any]:
    view: dict[str, Any] = {
        "post": post(author),
        "reply": {
            "parent": post(parent) if isinstance(parent, str) else parent,
            "root": post(root) if isinstance(root, str) else root,
        },
    }
    view["post"]["record"]["reply"] = {}
    if grandparent is not None:
        view["reply"]["grandparentAuthor"] = profile(grandparent)
    return view


@pytest.mark.parametrize(
    "view",
    [
        reply(ANN, BEN, BEN),
        reply(ANN, ME, ME),
        reply(ME, ANN, ANN),
        reply(ANN, ANN, ANN),
        reply(ANN, ANN, ANN, ANN),
        reply(ME, ME, ME),
        reply(ANN, STRANGER, BEN, BEN),
        reply(ANN, STRANGER, ME),
        reply(ANN, BEN, STRANGER),
        reply(ANN, STRANGER, STRANGER, BEN),
        reply(ANN, ANN, STRANGER, BEN),
        reply(ME, STRANGER, ANN),
    ],
)
def test_reply_shows_when_an_ancestor_is_by_somebody_else_who_is_close(
    view: dict[str, Any],
) -> None:
    assert shows_in_following(view, ME)


@pytest.mark.parametrize(
    "view",
    [
        reply(ANN, STRANGER, STRANGER),
        reply(ANN, STRANGER, STRANGER, OTHER),
        reply(ANN, ANN, STRANGER, STRANGER),
        reply(ANN, STRANGER, ANN, ANN),
        reply(ME, STRANGER, STRANGER),
        reply(ME, ME, STRANGER, STRANGER),
        reply(STRANGER, ANN, ANN),
        reply(STRANGER, STRANGER, STRANGER),
    ],
)
def test_reply_among_strangers_is_left_out(view: dict[str, Any]) -> None:
    assert not shows_in_following(view, ME)


@pytest.mark.parametrize("missing", [GONE, BLOCKED])
def test_orphaned_reply_is_left_out_even_in_a_thread_of_ones_own(missing: dict[str, Any]) -> None:
    assert not shows_in_following(reply(ANN, missing, ANN), ME)
    assert not shows_in_following(reply(ANN, ANN, missing), ME)
    assert not shows_in_following(reply(ME, missing, missing), ME)


def test_reply_that_the_appview_gives_no_context_for_is_an_orphan() -> None:
    view = reply(ANN, BEN, BEN)
    del view["reply"]
    assert not shows_in_following(view, ME)


def test_post_shows_and_so_does_any_repost() -> None:
    assert shows_in_following({"post": post(ANN)}, ME)
    reposted = reply(STRANGER, OTHER, GONE)
    reposted["reason"] = {"$type": "app.bsky.feed.defs#reasonRepost", "by": profile(ANN)}
    assert shows_in_following(reposted, ME)
