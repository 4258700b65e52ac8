"""Logs: one line a happening, as text for people or as JSON for machines.

One line, and nothing that a terminal obeys, also of what a stranger's server says of itself.
While a request is answered, its lines carry its name (`request`), which the answer carries too.
Nobody logs a token, or the text of a post.
"""

import json
import logging
import sys
import time

from server.core.request_id import request_id


def configure_logging(log_format: str, level: str) -> None:
    """Send everything to standard error, and be quiet about what libraries find interesting."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("apscheduler", "urllib3", "werkzeug"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class TextFormatter(logging.Formatter):
    """Time in UTC, level, where it comes from, message, request."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s")
        self.datefmt = "%Y-%m-%dT%H:%M:%S"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line, before a traceback."""
        line = super().formatMessage(record)
        if not line.isprintable():
            line = "".join(letter if letter.isprintable() else " " for letter in line)
        name = request_id.get()
        return f"{line} request={name}" if name else line


class JsonFormatter(logging.Formatter):
    """The same as an object in one line."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if name := request_id.get():
            line["request"] = name
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
