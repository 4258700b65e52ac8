"""The XRPC methods of a feed generator (lexicons app.bsky.feed.*)."""

import time
from dataclasses import dataclass

from flask import Blueprint, Response, current_app, jsonify, request

from server.core.config import Config
from server.core.errors import BadRequest, XrpcError
from server.core.feed import Feed, TimelineItem, to_skeleton
from server.identity.cache import IdentityCache
from server.identity.strict_json import parse_json
from server.storage.timeline import timeline_page
from server.web.auth import requester
from server.web.first_load import NEW_US, FirstLoads
from server.web.parameters import parse_skeleton
from server.web.sightings import Sightings

GET_FEED_SKELETON = "app.bsky.feed.getFeedSkeleton"
SEND_INTERACTIONS = "app.bsky.feed.sendInteractions"

# What an app sends in one go is a handful; the body is read whole.
MAX_INTERACTIONS = 500

xrpc = Blueprint("xrpc", __name__, url_prefix="/xrpc")


@dataclass(frozen=True, slots=True)
class Service:
    """What the views share; kept in `app.extensions["gapless"]`."""

    config: Config
    feeds: tuple[Feed, ...]
    identities: IdentityCache
    sightings: Sightings
    first_loads: FirstLoads


def service() -> Service:
    """The current app's."""
    found: Service = current_app.extensions["gapless"]
    return found


@xrpc.get(f"/{GET_FEED_SKELETON}")
def get_feed_skeleton() -> Response:
    """One page of the requester's own feed; the AppView hydrates it."""
    ours = service()
    wanted = parse_skeleton(request.args, ours.feeds, ours.config.publisher_did)
    token = requester(request, GET_FEED_SKELETON, ours.config.service_did, ours.identities)
    now_us = time.time_ns() // 1000
    viewer = ours.sightings.see(token.iss, now_us)
    is_first_page = wanted.below is None and wanted.limit > 1
    is_new = is_first_page and now_us - viewer.first_us < NEW_US
    if is_new:
        ours.first_loads.wait_for_first_page(viewer.number)
    page = timeline_page(viewer.number, wanted.feed.filter, wanted.below, wanted.limit)
    items = page.items
    if is_new and not items and ours.config.notice_post_uri is not None:
        # Polls for news (`limit=1`) never see it: they would call it a new post.
        items = [TimelineItem(0, ours.config.notice_post_uri, None)]
    response = jsonify(to_skeleton(items, page.has_more))
    response.headers["Cache-Control"] = "private, no-store"
    return response


@xrpc.get("/app.bsky.feed.describeFeedGenerator")
def describe_feed_generator() -> Response:
    """Which feeds there are. Open to everybody."""
    ours = service()
    feeds = [{"uri": feed.uri(ours.config.publisher_did)} for feed in ours.feeds]
    return jsonify({"did": ours.config.service_did, "feeds": feeds})


@xrpc.post(f"/{SEND_INTERACTIONS}")
def send_interactions() -> Response:
    """Taken from whoever proves who they are, and not used by any feed yet."""
    ours = service()
    requester(request, SEND_INTERACTIONS, ours.config.service_did, ours.identities)
    try:
        body = parse_json(request.get_data())
    except ValueError as error:
        raise BadRequest("the body must be JSON, and not too deep") from error
    interactions = body.get("interactions") if isinstance(body, dict) else None
    if not isinstance(interactions, list) or len(interactions) > MAX_INTERACTIONS:
        raise BadRequest(f"interactions must be a list of at most {MAX_INTERACTIONS}")
    return jsonify({})


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
