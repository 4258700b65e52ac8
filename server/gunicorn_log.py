"""gunicorn's own lines go where ours go, and look like them: to the root logger."""

from typing import Any

from gunicorn.glogging import Logger


class Log(Logger):  # type: ignore[misc]
    """gunicorn's logger without handlers of its own."""

    def setup(self, cfg: Any) -> None:
        """As gunicorn's; the root logger's handler is there (logs.py)."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
