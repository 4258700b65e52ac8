"""What a feed of everything must show one viewer, told from the world alone."""

from collections.abc import Iterator

from simnet.account import FOLLOW, POST, REPOST
from simnet.clock import time_us_of_iso
from simnet.world import LiveRecord, World


def expected_everything(world: World, viewer: str) -> list[str]:
    """URIs of posts and reposts by the viewer and the followed, newest first."""
    with world.lock:
        items = list(world.records(POST, REPOST))
        authors = {viewer} | {
            str(follow.record["subject"])
            for follow in world.records(FOLLOW)
            if follow.did == viewer
        }
        visible = [item for item in items if item.did in authors and _is_visible(world, item)]
    return [item.uri for item in sorted(visible, key=_sort_us, reverse=True)]


def _is_visible(world: World, item: LiveRecord) -> bool:
    return all(
        world.accounts[did].status == "active" and exists for did, exists in _needs(world, item)
    )


def _needs(world: World, item: LiveRecord) -> Iterator[tuple[str, bool]]:
    yield item.did, True
    if item.ref.collection == REPOST:
        uri = str(item.record["subject"]["uri"])
        yield uri.split("/")[2], world.lookup(uri) is not None


def _sort_us(item: LiveRecord) -> int:
    created_us = time_us_of_iso(item.record["createdAt"])
    return item.first_us if created_us is None else min(created_us, item.first_us)
