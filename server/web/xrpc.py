"""The XRPC methods of a feed generator (lexicons app.bsky.feed.*)."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from flask import Blueprint, Response, current_app, jsonify, request

from server.core.config import Config
from server.core.errors import BadRequest, FeedNotReady, XrpcError
from server.core.feed import Feed, FeedCursor, to_skeleton
from server.core.interactions import furthest_seen, make_req_id
from server.identity.cache import IdentityCache
from server.identity.service_auth import ServiceToken
from server.identity.strict_json import parse_json
from server.storage import follow_backs, read_positions, viewers
from server.storage.allowance import allow, end_allowance
from server.storage.recent_items import RecentItems
from server.storage.recent_page import recent_page, suits
from server.storage.replicas import Replicas
from server.storage.spare_writes import SpareWrites
from server.storage.timeline import TimelinePage, timeline_page
from server.web import reading_place
from server.web.auth import requester
from server.web.feed_check import FeedChecks
from server.web.first_load import NEW_US, NOT_READY, PATIENCE_US, FirstLoads
from server.web.limits import ViewerLimits
from server.web.parameters import SkeletonParameters, feed_of, parse_skeleton
from server.web.sightings import Sighting, Sightings
from server.web.spent_tokens import SpentTokens
from server.web.standing import Standings

GET_FEED_SKELETON = "app.bsky.feed.getFeedSkeleton"
SEND_INTERACTIONS = "app.bsky.feed.sendInteractions"

# What an app sends in one go is a handful; the body is read whole.
MAX_INTERACTIONS = 500

# The AppView gives up after 5 s: what it asks for is not looked for any longer.
PAGE_SECONDS = 5.0

xrpc = Blueprint("xrpc", __name__, url_prefix="/xrpc")


@dataclass(frozen=True, slots=True)
class Service:
    """What the views share; kept in `app.extensions["gapless"]`."""

    config: Config
    feeds: tuple[Feed, ...]
    identities: IdentityCache
    limits: ViewerLimits
    sightings: Sightings
    first_loads: FirstLoads
    spent_tokens: SpentTokens
    standings: Standings
    checks: FeedChecks
    replicas: Replicas
    recent: RecentItems | None
    spare_writes: SpareWrites


@xrpc.before_request
def _begin() -> None:
    allow(PAGE_SECONDS)


@xrpc.teardown_request
def _end(_error: BaseException | None) -> None:
    end_allowance()


def service() -> Service:
    """The current app's."""
    found: Service = current_app.extensions["gapless"]
    return found


def _requester(method: str) -> ServiceToken:
    ours = service()
    return requester(request, method, ours.config.service_did, ours.identities, ours.limits)


@xrpc.get(f"/{GET_FEED_SKELETON}")
def get_feed_skeleton() -> Response:
    """One page of the requester's own feed; the AppView hydrates it."""
    ours = service()
    wanted = parse_skeleton(request.args, ours.feeds, ours.config.publisher_did)
    token = _requester(GET_FEED_SKELETON)
    now_us = time.time_ns() // 1000
    viewer = ours.sightings.see(token.iss, now_us)
    is_new = wanted.is_first_page and abs(now_us - viewer.first_us) < NEW_US
    _wait_for_first_page(wanted, viewer.number, is_new, now_us)
    skeleton = _skeleton(wanted, viewer.number, now_us)
    # Polls for news (`limit=1`) are told nothing: they would call the notice a new post.
    if wanted.is_first_page and not skeleton["feed"]:
        skeleton = _instead_of_nothing(wanted, viewer, now_us)
    # Flask's own encoder takes ten times as long.
    response = Response(msgspec.json.encode(skeleton), mimetype="application/json")
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _wait_for_first_page(
    wanted: SkeletonParameters, viewer: int, is_new: bool, now_us: int
) -> None:
    waits_for: list[Callable[[], bool]] = []
    if is_new:
        waits_for.append(lambda: viewers.readiness(viewer).has_first_page)
    needs_mutuals = wanted.is_first_page and wanted.feed.filter.authors == "mutual"
    if needs_mutuals and _want_mutuals(viewer, now_us):
        waits_for.append(lambda: follow_backs.are_tried(viewer))
    if waits_for:
        service().first_loads.wait_until(lambda: all(has_come() for has_come in waits_for))


def _want_mutuals(viewer: int, now_us: int) -> bool | None:
    """Have them looked up; whether it makes sense to wait for that."""
    return service().spare_writes.attempt(
        "whose mutuals are to be looked up", lambda: follow_backs.want(viewer, now_us)
    )


def _instead_of_nothing(
    wanted: SkeletonParameters, viewer: Sighting, now_us: int
) -> dict[str, object]:
    """What somebody gets whose first page is empty. Raises FeedNotReady."""
    if _is_to_come(wanted, viewer.number):
        notice = service().config.notice_post_uri
        if notice is not None:
            return {"feed": [{"post": notice}]}
        if _is_worth_waiting(wanted, viewer, now_us):
            raise FeedNotReady(NOT_READY)
    # What was still to come may have come after the page was read.
    return _skeleton(wanted, viewer.number, now_us)


def _is_to_come(wanted: SkeletonParameters, viewer: int) -> bool:
    """Whether an empty page is empty because something is still being fetched."""
    if not viewers.readiness(viewer).has_first_page:
        return True
    return wanted.feed.filter.authors == "mutual" and not follow_backs.are_tried(viewer)


def _is_worth_waiting(wanted: SkeletonParameters, viewer: Sighting, now_us: int) -> bool:
    """Whether what is to come can be expected soon; somebody who is told so asks again by hand."""
    # A clock may have been ahead when they first came.
    if abs(now_us - viewer.first_us) < PATIENCE_US:
        return True
    return wanted.feed.filter.authors == "mutual" and bool(_want_mutuals(viewer.number, now_us))


def _skeleton(wanted: SkeletonParameters, viewer: int, now_us: int) -> dict[str, object]:
    feed, limit, cursor = wanted.feed, wanted.limit, wanted.cursor
    began = None if cursor is None else cursor.key
    if feed.oldest_first:
        if cursor is None:
            began = reading_place.begin(viewer, feed, limit, now_us)
        else:
            service().spare_writes.attempt(
                "how far somebody has read",
                lambda: reading_place.turn_page(viewer, feed, cursor, limit, now_us),
            )
    page = _page(feed, viewer, began, limit, now_us)
    following = None
    # A cursor on the last page would make the app ask for an empty one.
    if page.has_more:
        following = FeedCursor(page.items[-1].key, began if feed.oldest_first else None)
    req_id = make_req_id(feed.rkey, now_us) if feed.accepts_interactions else None
    return to_skeleton(page.items, following, req_id)


def _page(feed: Feed, viewer: int, beyond: int | None, limit: int, now_us: int) -> TimelinePage:
    """Out of memory where that can tell, or from a database."""
    ours = service()
    is_top = beyond is None and not feed.oldest_first
    if ours.recent is not None and is_top and suits(feed.filter):
        page = recent_page(ours.recent, viewer, feed.filter, limit)
        if page is not None:
            return page
    return ours.replicas.read(
        lambda: timeline_page(
            viewer, feed.filter, beyond, limit, now_us, oldest_first=feed.oldest_first
        )
    )


@xrpc.get("/app.bsky.feed.describeFeedGenerator")
def describe_feed_generator() -> Response:
    """Which feeds there are. Open to everybody."""
    ours = service()
    feeds = [{"uri": feed.uri(ours.config.publisher_did)} for feed in ours.feeds]
    return jsonify({"did": ours.config.service_did, "feeds": feeds})


@xrpc.post(f"/{SEND_INTERACTIONS}")
def send_interactions() -> Response:
    """What an app showed to whom; only feeds that are read from the bottom want to know."""
    ours = service()
    token = _requester(SEND_INTERACTIONS)
    body = _read_body()
    interactions = body.get("interactions")
    if not isinstance(interactions, list) or len(interactions) > MAX_INTERACTIONS:
        raise BadRequest(f"interactions must be a list of at most {MAX_INTERACTIONS}")
    if body.get("feed") is not None:
        feed_of(body["feed"], ours.feeds, ours.config.publisher_did)
    if not ours.spent_tokens.is_spent(token):
        now_us = time.time_ns() // 1000
        asking = {feed.rkey for feed in ours.feeds if feed.accepts_interactions}
        furthest = furthest_seen(interactions, asking, now_us)
        # Whoever was never shown a page has seen nothing.
        viewer = viewers.find(token.iss) if furthest else None
        if viewer is not None:
            for rkey, key in furthest.items():
                read_positions.advance(viewer.number, rkey, key, now_us)
        ours.spent_tokens.spend(token)
    return jsonify({})


def _read_body() -> dict[str, object]:
    try:
        body = parse_json(request.get_data())
    except ValueError as error:
        raise BadRequest("the body must be JSON, and not too deep") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


@xrpc.get("/_health")
def xrpc_health() -> Response:
    """That the service answers, and its version."""
    return jsonify({"version": current_app.config["VERSION"]})


@xrpc.route("/<path:method>", methods=["GET", "POST"])
def other_method(method: str) -> Response:
    """Every other method of XRPC."""
    del method
    refusal = XrpcError("this method is not implemented here", "MethodNotImplemented")
    refusal.status = 501
    raise refusal
