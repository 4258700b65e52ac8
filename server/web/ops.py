"""For operators and platforms: is the process alive, and can it do its job."""

import time

from flask import Blueprint, Response, jsonify

from server.storage import leases
from server.storage.database import DatabaseError, value

ops = Blueprint("ops", __name__)

# The leader writes a sign of life every 2 s, between batches. A batch is never this long.
LEADER_SILENT_SECONDS = 30


@ops.get("/health")
def health() -> Response:
    """The process answers. Nothing else is asked."""
    return jsonify({"status": "ok"})


@ops.get("/ready")
def ready() -> tuple[Response, int]:
    """200 when the database answers and the stream is being read; else 503 and what is wrong."""
    try:
        problem = _problem(time.time_ns() // 1000)
    except DatabaseError:
        problem = "the database does not answer"
    if problem is not None:
        return jsonify({"status": "not ready", "problem": problem}), 503
    return jsonify({"status": "ready"}), 200


def _problem(now_us: int) -> str | None:
    value("SELECT 1")
    leader = leases.leader()
    if leader is None:
        return "no ingest process has led yet"
    silent_s = (now_us - leader.alive_us) / 1_000_000
    if silent_s > LEADER_SILENT_SECONDS:
        return f"the leading ingest process has been silent for {silent_s:.0f} s"
    if leader.connected_us is None:
        return "the stream is not connected"
    return None
