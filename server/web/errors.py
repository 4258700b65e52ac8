"""Every error as JSON, in the shape of XRPC: no HTML, no stack trace, only our own words."""

import logging

from flask import Flask, Response, g, jsonify
from werkzeug.exceptions import HTTPException

from server.core.errors import AuthRequired, XrpcError
from server.storage.database import DatabaseError

log = logging.getLogger(__name__)


def register_error_handlers(app: Flask) -> None:
    """Handle what views raise, and what Flask itself answers."""
    app.register_error_handler(XrpcError, _xrpc_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(DatabaseError, _database_error)
    app.register_error_handler(Exception, _unexpected)


def _xrpc_error(error: XrpcError) -> Response:
    response = _body(error.status, error.name, error.message)
    if isinstance(error, AuthRequired):
        log.info("token refused reason=%s", error.reason)
        g.token_refusal = error.reason
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    name = (error.name or "Error").replace(" ", "").replace("'", "")
    response = _body(status, name, error.description or error.name)
    for header in ("Allow", "Retry-After"):
        for key, text in error.get_headers():
            if key == header:
                response.headers[header] = text
    return response


def _database_error(error: DatabaseError) -> Response:
    log.error("database failed: %s", error)
    response = _body(503, "ServiceUnavailable", "the database does not answer: try again soon")
    response.headers["Retry-After"] = "5"
    return response


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return _body(500, "InternalServerError", "something went wrong here")


def _body(status: int, name: str, message: str) -> Response:
    g.error = name
    response = jsonify({"error": name, "message": message})
    response.status_code = status
    return response
