"""For operators and platforms: is the process alive, and can it do its job."""

import time

from flask import Blueprint, Response, jsonify

from server.storage import leases
from server.storage.database import DatabaseError

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
