"""Reports of errors to Sentry or what speaks its protocol, for who sets SENTRY_DSN.

What is logged as an error is reported: its message, and its traceback without the values of
variables. Nothing of a request goes along but its name: no headers, no address, no body. The
package is an extra, and who does not set the variable does not need it.
"""

import importlib
from typing import Any

from server.core.errors import ConfigError
from server.core.request_id import request_id

_MISSING = (
    "SENTRY_DSN is set, but the package sentry-sdk is not installed:"
    " pip install 'sentry-sdk>=2.30,<3', or unset SENTRY_DSN"
)


def start_error_tracking(dsn: str | None, version: str) -> None:
    """Report errors of this process from now on, if that is wanted.

    Raises ConfigError when the package is missing or refuses the DSN.
    """
    if dsn is None:
        return
    try:
        sentry = importlib.import_module("sentry_sdk")
    except ImportError as error:
        raise ConfigError([_MISSING]) from error
    try:
        sentry.init(
            dsn=dsn,
            release=f"gapless@{version}",
            before_send=_strip,
            include_local_variables=False,
            max_breadcrumbs=0,
            auto_enabling_integrations=False,
            server_name="",
        )
    except ValueError as error:
        raise ConfigError([f"SENTRY_DSN: {error}"]) from error


def _strip(event: dict[str, Any], _hint: dict[str, Any]) -> dict[str, Any]:
    for part in ("request", "user", "extra", "modules"):
        event.pop(part, None)
    if name := request_id.get():
        event.setdefault("tags", {})["request"] = name
    return event
