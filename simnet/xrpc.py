"""What XRPC methods share: the error they raise and how they read parameters."""

from collections.abc import Callable

from simnet.http_server import Reply, Request

# The HTTP verb a method wants, and what answers it.
Method = tuple[str, Callable[[Request], Reply]]


class XrpcError(Exception):
    """Becomes the body `{"error": name, "message": message}`."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(f"{status} {name}: {message}")
        self.status = status
        self.name = name
        self.message = message


def required(request: Request, name: str) -> str:
    """A query parameter that must be there."""
    value = request.query.get(name)
    if not value:
        raise XrpcError(400, "InvalidRequest", f'Error: Params must have the property "{name}"')
    return value


def page_limit(request: Request, *, default: int, largest: int) -> int:
    """The `limit` parameter, refused outside 1 to `largest`."""
    text = request.query.get("limit") or str(default)
    if not (text.isascii() and text.isdigit()):
        raise XrpcError(400, "InvalidRequest", "Error: limit must be an integer")
    limit = int(text)
    if not 1 <= limit <= largest:
        raise XrpcError(400, "InvalidRequest", f"Error: limit must be between 1 and {largest}")
    return limit
