"""The official app's Following rule for replies, written from hydrated views alone.

A second opinion for the judge: it shares nothing with the rule that the service has in its SQL.
Source: the app's feed tuners `removeOrphans` and `followedRepliesOnly`. The app's further step, one
reply a thread, is a matter of its screen and not of a feed.
"""

from __future__ import annotations

from typing import Any

POST_VIEW = "app.bsky.feed.defs#postView"


def shows_in_following(view: dict[str, Any], viewer_did: str) -> bool:
    """Whether the Following tab shows this feedViewPost of the official timeline."""
    post = view["post"]
    is_reply = post["record"].get("reply") is not None
    if "reason" in view or not is_reply:
        return True
    context = view.get("reply")
    if context is None or _is_orphan(context):
        return False
    return _is_wanted(post["author"], _ancestors(context), viewer_did)


def _is_orphan(context: dict[str, Any]) -> bool:
    # A post that is gone or blocked comes as a view of another type.
    return any(context[part].get("$type") != POST_VIEW for part in ("parent", "root"))


def _ancestors(context: dict[str, Any]) -> list[dict[str, Any]]:
    authors = [context["parent"]["author"], context["root"]["author"]]
    grandparent = context.get("grandparentAuthor")
    return authors if grandparent is None else [*authors, grandparent]


def _is_wanted(author: dict[str, Any], ancestors: list[dict[str, Any]], viewer_did: str) -> bool:
    def is_close(profile: dict[str, Any]) -> bool:
        return profile["did"] == viewer_did or bool(profile.get("viewer", {}).get("following"))

    others = [profile for profile in ancestors if profile["did"] != author["did"]]
    return is_close(author) and (not others or any(is_close(profile) for profile in others))
