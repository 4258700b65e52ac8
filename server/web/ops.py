"""For operators and platforms: is the process alive, can it do its job, and what are the numbers.

/health and /ready are open and say nothing that is not public. /metrics needs ADMIN_TOKEN, in the
Authorization header and nowhere else (addresses end up in logs); while that is not set, the page
does not exist.
"""

import hmac
import time

from flask import Blueprint, Response, abort, current_app, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST

from server.core.errors import AuthRequired
from server.storage import leases
from server.storage.database import DatabaseError
from server.web import scrape
from server.web.xrpc import service

ops = Blueprint("ops", __name__)


@ops.get("/health")
def health() -> Response:
    """The process answers. Nothing else is asked."""
    return jsonify({"status": "ok"})


@ops.get("/ready")
def ready() -> tuple[Response, int]:
    """200 when the database answers and the stream is being read; else 503 and what is wrong."""
    try:
        problem = leases.trouble(time.time_ns() // 1000)
    except DatabaseError:
        problem = "the database does not answer"
    if problem is not None:
        return jsonify({"status": "not ready", "problem": problem}), 503
    return jsonify({"status": "ready"}), 200


@ops.get("/metrics")
def metrics() -> Response:
    """Everything that is counted, for Prometheus."""
    _require_admin()
    counted, folder = current_app.extensions["metrics"]
    text = scrape.page(counted, folder, current_app.config["VERSION"], service().replicas)
    response = Response(text, content_type=CONTENT_TYPE_LATEST)
    response.headers["Cache-Control"] = "no-store"
    return response


def _require_admin() -> None:
    """Raises NotFound while there is no ADMIN_TOKEN, AuthRequired without the right one."""
    wanted = service().config.admin_token
    if wanted is None:
        abort(404)
    given = request.headers.get("Authorization", "")
    # In constant time: nobody finds the token out letter by letter.
    if not hmac.compare_digest(given.encode(), f"Bearer {wanted}".encode()):
        raise AuthRequired("this page needs the operator's token: see ADMIN_TOKEN", "admin")
